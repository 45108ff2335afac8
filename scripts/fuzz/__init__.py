"""Random damage to files and command lines: stn3d must answer or refuse with one sentence.

`samples` holds small valid files of each format, `mutations` damages them, `readers` reads them
with stn3d, `commands` draws command lines, `cases` is the list of both by number, `worker` runs
cases in a child process with a memory limit, and `supervisor` counts what became of them.
"""
