"""The packet path: pure functions over the shared read-only tables, the readers that feed them, and their service.

A customer packet meets no bus and no await: a reader drains a batch, each packet is looked up in a flow cache whose
rows hold prebuilt headers and the bound `send` of a port, and leaves. What the cache does not know, or what needs more
than a rewrite, goes through `path`, slowly, completely and counted.

    readers -> path -> resolve -> rewrite -> a port's send
                 \\-> errors (ICMP), labels (LFIB), facts to the bus within a budget
"""
