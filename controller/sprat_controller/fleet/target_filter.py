r"""Which devices are meant: a language over labels, site, hardware class and profile. Pure.

    site = lyon and (cores >= 4 or hardware_class in (abc, def)) and not label.ring = canary
    memory >= 2GiB and has(avx2) and os != "linux 6*"
    label.ring exists and device = gateway-*

The grammar; words in capitals are tokens, keywords may be written in capitals:

    filter  = [ or ]                                  nothing at all: every device
    or      = and { "or" and }
    and     = not { "and" not }
    not     = "not" not | "(" or ")" | test
    test    = TEXT ( "=" | "!=" ) value               label, site, text or set
            | TEXT [ "not" ] "in" "(" value { "," value } ")"
            | NUMBER ( "=" | "!=" | "<" | "<=" | ">" | ">=" ) number
            | NUMBER [ "not" ] "in" "(" number { "," number } ")"
            | field "exists"                          known, set, not empty
            | "has" "(" value ")"                     among cpu_features, accelerators, runtimes
            | FLAG [ ( "=" | "!=" ) ( "true" | "false" ) ]
    value   = WORD | 'text' | "text"                  * stands for any characters; \\* for itself
    number  = digits [ "." digits ] [ unit ]          units for sizes only: GiB, GB, MiB ...

TEXT are `site` (the label of that name), `label.KEY`, device, state, group, hardware_class,
agent_version, arch, os, processor, power and the sets cpu_features, accelerators, runtimes (of a
set one name must do). NUMBER are cores, capability and the sizes memory, memory_budget and
disk_free (bytes, if no unit is said). FLAG are online and simulated.

A word needs no quotes if it is of letters, digits and `_.:/+*@-` and no keyword. Capital and small
letters differ. What is not known meets no test, so its negation is true: `site != lyon` is true of
a device without a site.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from fractions import Fraction
from typing import Final, TypeAlias

from sprat_controller.fleet.filters.fields import ABILITIES, FIELDS, Facts, Field, Kind, named
from sprat_controller.fleet.filters.tokens import FilterError, Sort, Token, pieces, scan
from sprat_controller.fleet.filters.tree import (
    EVERY_DEVICE,
    UNITS,
    And,
    Compared,
    Exists,
    Has,
    Is,
    Matches,
    Not,
    Op,
    Or,
    Pattern,
    Tree,
    all_of,
    any_of,
    negated,
)

MAX_DEPTH: Final = 32  # of brackets and `not` within each other
MAX_TESTS: Final = 200
MAX_STARS: Final = 8  # in one value
_MAX_NUMBER: Final = (1 << 63) - 1
_MAX_DIGITS: Final = 30
_NUMBER: Final = re.compile(r"([0-9]+(?:\.[0-9]+)?)([A-Za-z]*)")
_SIGNS: Final = ("=", "!=", "<", "<=", ">", ">=")
_BOOLEANS: Final = {"true": True, "false": False}
_AN_OPERATOR: Final = {
    Kind.TEXT: "=, !=, in, not in or exists",
    Kind.LABEL: "=, !=, in, not in or exists",
    Kind.SET: "=, !=, in, not in or exists",
    Kind.COUNT: "=, !=, <, <=, >, >=, in, not in or exists",
    Kind.SIZE: "=, !=, <, <=, >, >=, in, not in or exists",
}


def parse(text: str) -> Tree:
    """Return what a filter says; an empty one says every device.

    Raises:
        FilterError: It is no filter; says at which character, what was expected and found.
    """
    reader = _Reader(scan(text))
    return EVERY_DEVICE if reader.next.sort is Sort.END else reader.whole()


Predicate: TypeAlias = Callable[[Facts], bool]


def matches(tree: Tree, facts: Facts) -> bool:
    """Tell whether a device is meant; whoever asks of many devices asks `predicate` once."""
    return predicate(tree)(facts)


def predicate(tree: Tree) -> Predicate:  # noqa: PLR0911 - a row for each kind of node
    """Return what tells whether a device is meant: the tree is gone through once, not each time."""
    match tree:
        case And(terms):
            return _all([predicate(term) for term in terms])
        case Or(terms):
            return _any([predicate(term) for term in terms])
        case Not(term):
            inner = predicate(term)
            return lambda facts: not inner(facts)
        case Matches(field, patterns):
            return _text_test(field, patterns)
        case Compared(field, op, number):
            compare = _COMPARED[op]
            return lambda facts: (
                (known := _number(field, facts)) is not None and compare(known, number)
            )
        case Exists(field) if field.is_number:
            return lambda facts: _number(field, facts) is not None
        case Exists(field):
            return lambda facts: bool(_texts(field, facts))
        case Has(pattern):
            fields = [FIELDS[name] for name in ABILITIES]
            return lambda facts: any(
                _is_like((pattern,), name) for field in fields for name in _texts(field, facts)
            )
        case Is(field):
            return lambda facts: getattr(facts, field.name) is True


def _all(terms: list[Predicate]) -> Predicate:
    def tell(facts: Facts) -> bool:
        for term in terms:  # noqa: SIM110 - `all` costs as much again as what it calls
            if not term(facts):
                return False
        return True

    return tell


def _any(terms: list[Predicate]) -> Predicate:
    def tell(facts: Facts) -> bool:
        for term in terms:  # noqa: SIM110 - as above
            if term(facts):
                return True
        return False

    return tell


def _text_test(field: Field, patterns: tuple[Pattern, ...]) -> Predicate:
    """Return the test of a text; most are of one text and say it whole."""
    name, whole = field.name, {one.pieces[0] for one in patterns if len(one.pieces) == 1} - {""}
    are_whole = all(len(one.pieces) == 1 for one in patterns)
    if are_whole and field.kind is Kind.LABEL:
        return lambda facts: facts.labels.get(name) in whole
    if are_whole and field.kind is Kind.TEXT:
        return lambda facts: getattr(facts, name) in whole
    return lambda facts: any(_is_like(patterns, text) for text in _texts(field, facts))


_COMPARED: Final[dict[Op, Callable[[int, int], bool]]] = {
    Op.EQUAL: int.__eq__,
    Op.LESS: int.__lt__,
    Op.AT_MOST: int.__le__,
    Op.MORE: int.__gt__,
    Op.AT_LEAST: int.__ge__,
}


def _texts(field: Field, facts: Facts) -> tuple[str, ...]:
    """Return the texts of a field, the empty ones left out: they are not known."""
    if field.kind is Kind.LABEL:
        found: str | tuple[str, ...] = facts.labels.get(field.name, "")
    else:
        found = getattr(facts, field.name)
    texts = (found,) if isinstance(found, str) else found
    return tuple(text for text in texts if text)


def _number(field: Field, facts: Facts) -> int | None:
    return getattr(facts, field.name)


def _is_like(patterns: tuple[Pattern, ...], text: str) -> bool:
    return any(_is_one(pattern.pieces, text) for pattern in patterns)


def _is_one(parts: tuple[str, ...], text: str) -> bool:
    """Tell whether the parts stand in the text in order, the outer ones at its ends."""
    if len(parts) == 1:
        return text == parts[0]
    first, *middle, last = parts
    at, end = len(first), len(text) - len(last)
    if at > end or not text.startswith(first) or not text.endswith(last):
        return False
    for part in middle:
        found = text.find(part, at, end)
        if found < 0:
            return False
        at = found + len(part)
    return True


class _Reader:
    """Goes through the tokens of a filter once."""

    def __init__(self, tokens: list[Token]) -> None:
        self._tokens = tokens
        self._at = 0
        self._depth = 0
        self._tests = 0

    @property
    def next(self) -> Token:
        """The token that comes now."""
        return self._tokens[self._at]

    def whole(self) -> Tree:
        """Read all of it."""
        tree = self._or()
        if self.next.sort is not Sort.END:
            raise self._wrong("and, or, or the end")
        return tree

    def _or(self) -> Tree:
        terms = [self._and()]
        while self._take_keyword("or"):
            terms.append(self._and())
        return any_of(terms)

    def _and(self) -> Tree:
        terms = [self._not()]
        while self._take_keyword("and"):
            terms.append(self._not())
        return all_of(terms)

    def _not(self) -> Tree:
        if self._take_keyword("not"):
            return negated(self._deeper(self._not))
        if self._take_sign("("):
            inner = self._deeper(self._or)
            self._expect_sign(")", "and, or, or )")
            return inner
        return self._test()

    def _deeper(self, read: Callable[[], Tree]) -> Tree:
        self._depth += 1
        if self._depth > MAX_DEPTH:
            raise self._wrong(f"at most {MAX_DEPTH} brackets and nots within each other", "more")
        tree = read()
        self._depth -= 1
        return tree

    def _test(self) -> Tree:
        self._count()
        if self._take_keyword("has"):
            self._expect_sign("(", "( after has")
            pattern = self._value()
            self._expect_sign(")", ")")
            return Has(pattern)
        field = self._field()
        if field.kind is Kind.FLAG:
            return self._flag(field)
        if self._take_keyword("exists"):
            return Exists(field)
        if self._take_keyword("not"):
            if not self._take_keyword("in"):
                raise self._wrong("in after not")
            return negated(self._any_of(field))
        if self._take_keyword("in"):
            return self._any_of(field)
        return self._compared(field)

    def _count(self) -> None:
        self._tests += 1
        if self._tests > MAX_TESTS:
            raise self._wrong(f"at most {MAX_TESTS} tests and numbers to compare with", "more")

    def _field(self) -> Field:
        word = self.next
        if word.sort is not Sort.WORD or word.keyword is not None:
            raise self._wrong("a field such as site or label.ring, not, has or (")
        field = named(word.text)
        if field is None and word.text.startswith("label."):
            raise self._wrong(
                "a label's key of letters, digits and ._/- (at most 63, a letter or digit first)"
                " after label."
            )
        if field is None:
            raise self._wrong(f"a field ({', '.join(FIELDS)}, label.KEY)")
        self._at += 1
        return field

    def _flag(self, field: Field) -> Tree:
        sign = self.next.text if self.next.sort is Sort.SIGN else ""
        if sign not in ("=", "!="):
            return Is(field)
        self._at += 1
        wanted = _BOOLEANS.get(self.next.text.lower()) if self.next.sort is Sort.WORD else None
        if wanted is None:
            raise self._wrong("true or false")
        self._at += 1
        return Is(field) if wanted is (sign == "=") else Not(Is(field))

    def _compared(self, field: Field) -> Tree:
        sign = self.next.text if self.next.sort is Sort.SIGN else ""
        if sign not in _SIGNS or (sign not in ("=", "!=") and not field.is_number):
            raise self._wrong(f"{_AN_OPERATOR[field.kind]} after {field.said}")
        self._at += 1
        op = Op.EQUAL if sign == "!=" else Op(sign)
        if field.is_number:
            tree: Tree = Compared(field, op, self._number(field))
        else:
            tree = Matches(field, (self._value(),))
        return negated(tree) if sign == "!=" else tree

    def _any_of(self, field: Field) -> Tree:
        self._expect_sign("(", "( after in")
        if not field.is_number:
            patterns = [self._value()]
            while self._take_sign(","):
                patterns.append(self._value())
            self._expect_sign(")", ", or )")
            return Matches(field, tuple(patterns))
        equal: list[Tree] = [Compared(field, Op.EQUAL, self._number(field))]
        while self._take_sign(","):
            self._count()
            equal.append(Compared(field, Op.EQUAL, self._number(field)))
        self._expect_sign(")", ", or )")
        return any_of(equal)

    def _value(self) -> Pattern:
        token = self.next
        if token.sort not in (Sort.WORD, Sort.STRING) or token.keyword is not None:
            raise self._wrong("a value (in quotes, if it is a keyword or has other signs)")
        parts = pieces(token)
        if len(parts) - 1 > MAX_STARS:
            raise self._wrong(f"at most {MAX_STARS} * in a value")
        self._at += 1
        return Pattern(parts)

    def _number(self, field: Field) -> int:
        token = self.next
        is_size = field.kind is Kind.SIZE
        expected = "a size such as 2GiB or 512MiB" if is_size else "a whole number"
        found = _NUMBER.fullmatch(token.text) if token.sort is Sort.WORD else None
        if found is None or len(found[1]) > _MAX_DIGITS:
            raise self._wrong(expected)
        unit = (UNITS.get(found[2]) if is_size else None) if found[2] else 1
        if unit is None:
            units = f" with a unit of {', '.join(UNITS)}" if is_size else " without a unit"
            raise self._wrong(f"{expected}{units}")
        number = Fraction(found[1]) * unit
        if number.denominator != 1 or number > _MAX_NUMBER:
            raise self._wrong(f"{expected}, of at most 2^63 and whole{' bytes' * is_size}")
        self._at += 1
        return int(number)

    def _take_keyword(self, keyword: str) -> bool:
        is_there = self.next.keyword == keyword
        self._at += is_there
        return is_there

    def _take_sign(self, sign: str) -> bool:
        is_there = self.next.sort is Sort.SIGN and self.next.text == sign
        self._at += is_there
        return is_there

    def _expect_sign(self, sign: str, expected: str) -> None:
        if not self._take_sign(sign):
            raise self._wrong(expected)

    def _wrong(self, expected: str, found: str | None = None) -> FilterError:
        return FilterError(self.next.place, expected, found or self.next.shown)
