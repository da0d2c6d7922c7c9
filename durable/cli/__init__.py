"""The command line: `durable run`, `resume`, `ls`, `show`, `history`, `callback`, `saga`, `cancel`, `stop`.

  app                             the program: its commands and how they are put together
  run, resume, ls, show, history  one command each
  callback, saga, cancel, stop    the same, for those that act on an execution
  acting                          how they do it: here, or by asking the engine that has the store
  awaited, hints                  what an execution waits for, and what can be typed about it; no output
  options                         what they have in common: options; how errors become messages and exit codes
  exits                           the exit codes
  inputs                          an execution's input, given as text
  reading                         looking at a store
  session, follow                 an engine at work, followed until it is done or told to stop, and told by a view
  story, tree                     events, and operations, as what a watcher wants to know; no output
  live, rows                      the view on a terminal
  plain                           the view as lines of text
  lines, machine                  the view as lines of JSON, and all other JSON
  outcome, tree_view              an ending, and a whole execution, printed
  terminal, texts, logs           consoles; words and numbers; logging

Modules that a command needs only when it runs are imported when it runs: `durable --help` is quick.
"""

from __future__ import annotations
