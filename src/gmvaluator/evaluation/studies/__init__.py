"""One module a study; each has a function from a `Context` to a `StudyResult`."""
