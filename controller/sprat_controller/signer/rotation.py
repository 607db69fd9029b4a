"""Replacing a key of the signer: the next one is made, a ceremony names it, then it is used.

    NAME.next.pem, NAME.next.pub   made by `new-key`; the public half goes to the ceremony
    NAME.old.pem                   the one before, after `use-key`
    ca-issuer.next.crt.pem         the root's word for the next issuer; the one before becomes
    ca-issuer.old.crt.pem          and has its list of revoked certificates signed until it ends

    audit-log.old.pem              the audit log's signs beside the next one, until `forget-key`

Only keys in files: in a token they are made with the token's own tools, and named in signer.json.
"""

from __future__ import annotations

from pathlib import Path
from typing import Final

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding, PublicFormat

from sprat_controller.config import write_private
from sprat_controller.errors import StartupError
from sprat_controller.signer.folder import DIRECTOR, IMAGE, ISSUER, LOG, SignerFolder
from sprat_controller.signer.keys import new_ed25519, new_p256, public_pem

NAMES: Final = (DIRECTOR, IMAGE, ISSUER, LOG)


def new_key(folder: SignerFolder, name: str) -> Path:
    """Make the next key of a role and return where its public half is. Blocking.

    Raises:
        StartupError: There is a next one already, or no passphrase, or it cannot be written.
    """
    private, public = folder.key_file(f"{name}.next"), folder.path / f"{name}.next.pub"
    passphrase = folder.passphrase()
    if passphrase is None:
        raise StartupError(
            "signer_passphrase", f"expected a passphrase for the keys in {folder.path}"
        )
    make = new_p256 if name == ISSUER else new_ed25519
    try:
        key = make(private, passphrase)
        write_private(public, public_pem(key))
    except FileExistsError as error:
        raise StartupError(
            "next_key_exists",
            f"{private} is there already: use it (`sprat-signer use-key {name}`), or remove it",
        ) from error
    except OSError as error:
        raise StartupError("signer_folder", f"{private} cannot be written: {error}") from error
    return public


def use_key(folder: SignerFolder, name: str) -> str:
    """Make the next key the one that signs from the next start on; say so in words. Blocking.

    Raises:
        StartupError: There is no next key, or (for the issuer) no certificate for it.
    """
    following, present = folder.key_file(f"{name}.next"), folder.key_file(name)
    public = folder.path / f"{name}.next.pub"
    if not following.exists():
        raise StartupError(
            "no_next_key", f"expected {following}: make it with `sprat-signer new-key {name}`"
        )
    # Killed between any two steps, it goes on where it was when it is run again.
    if name == ISSUER and public.exists():
        _use_certificate(folder)
    if public.exists():
        public.replace(folder.path / f"{name}.pub")
    if present.exists():
        present.replace(folder.key_file(f"{name}.old"))
    following.replace(present)
    return f"{name} is the new key from the next start on; the one before is {name}.old.pem"


def forget_log_key(folder: SignerFolder) -> str:
    """Let the audit log be signed by its present key alone from the next start on. Blocking.

    Raises:
        StartupError: There is no key before it.
    """
    former = folder.key_file(f"{LOG}.old")
    try:
        former.unlink()
    except OSError as error:
        raise StartupError(
            "no_former_key", f"{former} cannot be removed: {error.strerror}"
        ) from error
    return f"{LOG} is the only key of the audit log from the next start on"


def _use_certificate(folder: SignerFolder) -> None:
    """Set the issuer's certificate aside for the next one.

    Before the key: the signer checks that the two fit, and a start in between fails loudly instead
    of signing what nobody can verify.
    """
    following = folder.path / f"{ISSUER}.next.crt.pem"
    public = (folder.path / f"{ISSUER}.next.pub").read_bytes()
    present = folder.issuer_certificate.read_bytes()
    if _public_of(folder.issuer_certificate) == public:
        return
    if not following.exists():
        raise StartupError(
            "no_next_certificate",
            f"expected {following}: have the root sign it with `sprat trust certify-issuer`",
        )
    if _public_of(following) != public:
        raise StartupError("wrong_certificate", f"{following} is not of the next key of the issuer")
    write_private(folder.former_certificate, present)
    following.replace(folder.issuer_certificate)


def _public_of(path: Path) -> bytes:
    try:
        key = x509.load_pem_x509_certificate(path.read_bytes()).public_key()
    except (OSError, ValueError) as error:
        raise StartupError(
            "wrong_certificate", f"expected a certificate in {path}: {error}"
        ) from error
    return key.public_bytes(Encoding.PEM, PublicFormat.SubjectPublicKeyInfo)
