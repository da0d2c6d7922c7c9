"""The service's state machine: a record, an update and the time give a new record and events.

Pure: no event loop, no store, no clock. One file a type of operation; `state.py` holds an execution together and
checks what concerns more than one operation (PROTOCOL section 5).
"""
