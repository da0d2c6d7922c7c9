"""The command line: `durable run`, `resume`, `ls`, `show`, `history`.

  app         the program: its commands and how they are put together
  run, resume, ls, show, history      one command each
  options     what commands have in common: options, and how errors become messages and exit codes
  exits       the exit codes
  inputs      what is given on the command line as text: the function, its input
  session     an engine at work, followed until it is done or told to stop
  story       history events as what a watcher wants to know; no output
  live, plain, lines      how it is told: on a terminal, as lines of text, as lines of JSON
  outcome     how an execution ended, for people
  tree        operations as a tree, compensations beside what they undo
  terminal, texts, logs   consoles, words and numbers, logging

Modules that a command needs only when it runs are imported when it runs: `durable --help` is quick.
"""

from __future__ import annotations
