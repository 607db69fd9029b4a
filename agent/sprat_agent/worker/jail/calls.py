"""The numbers of system calls that a worker does not make, or not with any arguments.

They are the kernel's: asm/unistd_64.h and asm-generic/unistd.h.
"""

from __future__ import annotations

from typing import Final, NamedTuple


class Call(NamedTuple):
    """The number of one system call; None: the architecture has no such call."""

    x86_64: int | None
    aarch64: int | None


CLONE: Final = Call(56, 220)
CLONE3: Final = Call(435, 435)
PRLIMIT64: Final = Call(302, 261)
TGKILL: Final = Call(234, 131)
SENDTO: Final = Call(44, 206)
PRCTL: Final = Call(157, 167)

DENIED: Final = {
    # the network, and passing descriptors on
    "socket": Call(41, 198),
    "connect": Call(42, 203),
    "bind": Call(49, 200),
    "listen": Call(50, 201),
    "accept": Call(43, 202),
    "accept4": Call(288, 242),
    "socketpair": Call(53, 199),
    "sendmsg": Call(46, 211),
    "sendmmsg": Call(307, 269),
    # other programs
    "execve": Call(59, 221),
    "execveat": Call(322, 281),
    "fork": Call(57, None),
    "vfork": Call(58, None),
    # other processes
    "ptrace": Call(101, 117),
    "process_vm_readv": Call(310, 270),
    "process_vm_writev": Call(311, 271),
    "process_madvise": Call(440, 440),
    "process_mrelease": Call(448, 448),
    "kcmp": Call(312, 272),
    "kill": Call(62, 129),
    "tkill": Call(200, 130),
    "rt_sigqueueinfo": Call(129, 138),
    "rt_tgsigqueueinfo": Call(297, 240),
    "pidfd_open": Call(434, 434),
    "pidfd_getfd": Call(438, 438),
    "pidfd_send_signal": Call(424, 424),
    "move_pages": Call(279, 239),
    "migrate_pages": Call(256, 238),
    # memory and queues shared with other processes
    "shmget": Call(29, 194),
    "shmat": Call(30, 196),
    "shmctl": Call(31, 195),
    "msgget": Call(68, 186),
    "msgsnd": Call(69, 189),
    "msgrcv": Call(70, 188),
    "semget": Call(64, 190),
    "semop": Call(65, 193),
    "mq_open": Call(240, 180),
    "mq_unlink": Call(241, 181),
    # parts of the kernel that have been ways into it
    "io_uring_setup": Call(425, 425),
    "io_uring_enter": Call(426, 426),
    "io_uring_register": Call(427, 427),
    "bpf": Call(321, 280),
    "userfaultfd": Call(323, 282),
    "perf_event_open": Call(298, 241),
    "add_key": Call(248, 217),
    "request_key": Call(249, 218),
    "keyctl": Call(250, 219),
    "personality": Call(135, 92),
    "iopl": Call(172, None),
    "ioperm": Call(173, None),
    "modify_ldt": Call(154, None),
    # mounts and namespaces
    "mount": Call(165, 40),
    "umount2": Call(166, 39),
    "pivot_root": Call(155, 41),
    "chroot": Call(161, 51),
    "unshare": Call(272, 97),
    "setns": Call(308, 268),
    "open_tree": Call(428, 428),
    "move_mount": Call(429, 429),
    "fsopen": Call(430, 430),
    "fsconfig": Call(431, 431),
    "fsmount": Call(432, 432),
    "fspick": Call(433, 433),
    "mount_setattr": Call(442, 442),
    # the machine
    "init_module": Call(175, 105),
    "finit_module": Call(313, 273),
    "delete_module": Call(176, 106),
    "kexec_load": Call(246, 104),
    "kexec_file_load": Call(320, 294),
    "reboot": Call(169, 142),
    "swapon": Call(167, 224),
    "swapoff": Call(168, 225),
    "quotactl": Call(179, 60),
    "quotactl_fd": Call(443, 443),
    "acct": Call(163, 89),
    "syslog": Call(103, 116),
    "settimeofday": Call(164, 170),
    "clock_settime": Call(227, 112),
    "clock_adjtime": Call(305, 266),
    "adjtimex": Call(159, 171),
    "sethostname": Call(170, 161),
    "setdomainname": Call(171, 162),
    "fanotify_init": Call(300, 262),
    # who this process is
    "setuid": Call(105, 146),
    "setgid": Call(106, 144),
    "setreuid": Call(113, 145),
    "setregid": Call(114, 143),
    "setresuid": Call(117, 147),
    "setresgid": Call(119, 149),
    "setgroups": Call(116, 159),
    "setfsuid": Call(122, 151),
    "setfsgid": Call(123, 152),
    "capset": Call(126, 91),
    # names and attributes of files, some of which Landlock does not judge
    "chmod": Call(90, None),
    "fchmod": Call(91, 52),
    "fchmodat": Call(268, 53),
    "fchmodat2": Call(452, 452),
    "chown": Call(92, None),
    "fchown": Call(93, 55),
    "lchown": Call(94, None),
    "fchownat": Call(260, 54),
    "link": Call(86, None),
    "linkat": Call(265, 37),
    "symlink": Call(88, None),
    "symlinkat": Call(266, 36),
    "rename": Call(82, None),
    "renameat": Call(264, 38),
    "renameat2": Call(316, 276),
    "unlink": Call(87, None),
    "unlinkat": Call(263, 35),
    "mkdir": Call(83, None),
    "mkdirat": Call(258, 34),
    "rmdir": Call(84, None),
    "mknod": Call(133, None),
    "mknodat": Call(259, 33),
    "truncate": Call(76, 45),
    "utime": Call(132, None),
    "utimes": Call(235, None),
    "futimesat": Call(261, None),
    "utimensat": Call(280, 88),
    "setxattr": Call(188, 5),
    "lsetxattr": Call(189, 6),
    "fsetxattr": Call(190, 7),
    "removexattr": Call(197, 14),
    "lremovexattr": Call(198, 15),
    "fremovexattr": Call(199, 16),
    "setxattrat": Call(463, 463),
    "removexattrat": Call(466, 466),
    "name_to_handle_at": Call(303, 264),
    "open_by_handle_at": Call(304, 265),
}
