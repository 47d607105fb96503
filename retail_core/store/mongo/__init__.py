"""MongoDB, the system of record: connection, ledger, quarantine, predictions, audiences."""
