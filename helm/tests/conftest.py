"""The closing line that a reader, or a machine, counts by."""


def pytest_terminal_summary(terminalreporter):
    counted = {what: len(terminalreporter.stats.get(what, [])) for what in ("passed", "failed", "error")}
    terminalreporter.ensure_newline()
    terminalreporter.line(f"helm: {counted['passed']} passed, {counted['failed'] + counted['error']} failed")
