"""`show ip nhrp`, `show dmvpn` and their kin: pure renderers of the speaker's snapshot."""
