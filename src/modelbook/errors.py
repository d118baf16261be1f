"""The exceptions. Each error states what is wrong, what was expected, and what to do."""


class ModelbookError(Exception):
    """Base class of all errors that Modelbook raises for users.

    Parameters
    ----------
    problem : str
        What is wrong, with the value.
    expected : str
        What was expected.
    next : str
        What to do.
    """

    def __init__(self, problem: str, *, expected: str = "", next: str = "") -> None:
        self.problem = problem
        self.expected = expected
        self.next = next
        lines = [problem]
        if expected:
            lines.append(f"  expected: {expected}")
        if next:
            lines.append(f"  next:     {next}")
        super().__init__("\n".join(lines))

    def __reduce__(self) -> tuple[object, ...]:
        # Keyword-only arguments survive pickling between processes.
        return _rebuild_error, (type(self), self.problem, self.expected, self.next)


def _rebuild_error(
    kind: type[ModelbookError], problem: str, expected: str, next: str
) -> ModelbookError:
    return kind(problem, expected=expected, next=next)


def get_first_line(error: BaseException) -> str:
    """Return the first line of an error's message; its type if the message is empty."""
    return (str(error).splitlines() or [""])[0] or type(error).__name__


class ParameterError(ModelbookError):
    """A parameter is unknown, mistyped or out of range."""


class ContractError(ModelbookError):
    """The contract file cannot be used."""


class DataError(ModelbookError):
    """The table is missing, unreadable, empty, or cannot be learned from."""


class ContractViolationError(DataError):
    """The table breaks its contract."""


class StageError(ModelbookError):
    """A product of an earlier stage, or of this one, is missing."""


class SandboxError(ModelbookError):
    """A sandbox cannot be used, or another kernel writes it."""


class PipelineSpecError(ModelbookError):
    """Notebook, parameter model and pipeline.yaml of a stage disagree."""


class TrainingError(ModelbookError):
    """No candidate could be trained."""


class CustomCodeError(ModelbookError):
    """A file of custom/, or what it defines, cannot be used."""


class ReproductionError(ModelbookError):
    """A model does not reproduce its golden rows."""


class CompileError(ModelbookError):
    """A pipeline cannot be compiled; the fitted model serves instead."""


class PromotionError(ModelbookError):
    """A version may not become the champion."""


class DiskError(ModelbookError):
    """A disk is full."""


class StoreError(ModelbookError):
    """The MLflow store cannot be used."""


class ReportError(ModelbookError):
    """A report cannot be rendered from its input."""


class ServingError(ModelbookError):
    """The service cannot start."""


class JournalError(ModelbookError):
    """The journal cannot be used, or an outcome does not match it."""


class EngineError(ModelbookError):
    """An engine is not available, or failed."""


class RunHistoryError(ModelbookError):
    """A recorded run is missing, or cannot be read."""


class WorkbenchError(ModelbookError):
    """The environment cannot be set up for work on a project."""


class BuildError(ModelbookError):
    """Another build is running, or a stage of this build failed."""


class DemoError(ModelbookError):
    """A step of the demo does not show what it should."""
