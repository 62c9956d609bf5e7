"""The end of a command whose work goes on elsewhere."""

from __future__ import annotations


class SentAwayError(BaseException):
    """A job was sent, and nobody waits for it: what follows it in the command is done by the job.

    No Exception, as nothing has failed, and nobody on the way out is to take it for that.

    Attributes:
        job: what the runner calls it; None where it has not been started.
        template: where its graph was written, or "".
    """

    def __init__(self, job: str | None, template: str) -> None:
        super().__init__(job, template)
        self.job, self.template = job, template

    def told(self) -> str:
        """What a person should know.

        >>> SentAwayError("j-1", "").told()
        'sent as job j-1; its last step finishes the work'
        """
        if self.template:
            return f"the job's graph is written to {self.template}; its last step finishes the work"
        return f"sent as job {self.job}; its last step finishes the work"
