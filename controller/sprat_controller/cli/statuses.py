"""Which errors of the libraries are the caller's to mend, and how `sprat` ends with each.

Their modules bring most of what a call can do without: this one is for calls that failed.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Final

from sprat_proto.gguf import ModelFileError
from sprat_proto.manifest import ManifestError
from sprat_proto.signing import KeyFileError

from sprat_controller.cli.exits import Exit
from sprat_controller.publisher.convert.errors import ConvertError
from sprat_controller.publisher.evaluate.evaluate import EvaluateError
from sprat_controller.publisher.quality import QualityError
from sprat_controller.publisher.quantize import QuantizeError
from sprat_controller.trust.words import MetadataError

STATUSES: Final[Mapping[type[Exception], Exit]] = {
    ModelFileError: Exit.REFUSED,
    ManifestError: Exit.REFUSED,
    KeyFileError: Exit.ERROR,
    ConvertError: Exit.REFUSED,
    QuantizeError: Exit.ERROR,
    EvaluateError: Exit.ERROR,
    QualityError: Exit.REFUSED,
    MetadataError: Exit.REFUSED,
}
