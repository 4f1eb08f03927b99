"""BGP without I/O: sessions and peers (fsm, session, peers, speaker) on one side, the tables (rib) on the other."""
