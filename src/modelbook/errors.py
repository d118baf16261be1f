"""The tree of errors. Each says what was wrong (with its value), what was expected, and what to do next.

ModelbookError
├── ParameterError      a parameter is unknown, mistyped or out of range
├── ContractError       the contract file itself cannot be used
├── DataError           the table is absent, unreadable, empty, or cannot be learned from
│   └── ViolationError  the table breaks its contract
├── StageError          an earlier product is missing, or this stage did not write what it promised
├── WiringError         a stage's notebook, model of parameters and task in pipeline.yaml do not agree
├── TrainingError       no model came out of the comparison
├── TransformerError    a transformer of one's own is absent, or does not keep what it promises
├── ProofError          a model does not reproduce its golden rows
├── CompileError        a pipeline has no compiled form; the model itself serves in its place
├── PromotionError      a version may not take the champion's place
├── DiskError           a disk is full
├── StoreError          the MLflow store cannot be used
├── ReportError         a report cannot be made of what it was given
├── ServingError        the service cannot start with what it was given
├── JournalError        the journal cannot be used, or an outcome does not fit it
├── EngineError         an engine for more machines is not there, or cannot do its work
├── HistoryError        a run that is asked for is not there, or cannot be read
├── WorkbenchError      this environment cannot be set up for work on a project
└── BuildError          another build is running, or a stage of this one failed
"""


class ModelbookError(Exception):
    """Base of all errors that a user of Modelbook can meet.

    Parameters
    ----------
    what : str
        What was wrong, with its value.
    expected : str
        What would have been right.
    next : str
        What to do about it.
    """

    def __init__(self, what: str, *, expected: str = "", next: str = "") -> None:
        self.what, self.expected, self.next = what, expected, next
        lines = [what]
        if expected:
            lines.append(f"  expected: {expected}")
        if next:
            lines.append(f"  next:     {next}")
        super().__init__("\n".join(lines))

    def __reduce__(self):  # keyword-only arguments survive pickling between processes
        return _rebuild, (type(self), self.what, self.expected, self.next)


def _rebuild(kind: type[ModelbookError], what: str, expected: str, next: str) -> ModelbookError:
    return kind(what, expected=expected, next=next)


class ParameterError(ModelbookError):
    """A parameter is unknown, mistyped or out of range."""


class ContractError(ModelbookError):
    """The contract file itself cannot be used."""


class DataError(ModelbookError):
    """The table is absent, unreadable, empty, or cannot be learned from."""


class ViolationError(DataError):
    """The table breaks its contract."""


class StageError(ModelbookError):
    """An earlier product is missing, or this stage did not write what it promised."""


class WiringError(ModelbookError):
    """A stage's notebook, model of parameters and task in pipeline.yaml do not agree."""


class TrainingError(ModelbookError):
    """No model came out of the comparison."""


class TransformerError(ModelbookError):
    """A transformer of one's own is absent, or does not keep what it promises."""


class ProofError(ModelbookError):
    """A model does not reproduce its golden rows."""


class CompileError(ModelbookError):
    """A pipeline has no compiled form; the model itself serves in its place."""


class PromotionError(ModelbookError):
    """A version may not take the champion's place."""


class DiskError(ModelbookError):
    """A disk is full."""


class StoreError(ModelbookError):
    """The MLflow store cannot be used."""


class ReportError(ModelbookError):
    """A report cannot be made of what it was given."""


class ServingError(ModelbookError):
    """The service cannot start with what it was given."""


class JournalError(ModelbookError):
    """The journal cannot be used, or an outcome does not fit it."""


class EngineError(ModelbookError):
    """An engine for more machines is not there, or cannot do its work."""


class HistoryError(ModelbookError):
    """A run that is asked for is not there, or cannot be read."""


class WorkbenchError(ModelbookError):
    """This environment cannot be set up for work on a project."""


class BuildError(ModelbookError):
    """Another build is running, or a stage of this one failed."""
