"""NHRP packets: octets <-> values, total.

    packet = decode(octets)              # WireError: offset, field, RFC section
    encode(packet)
    password_of(extension), cies_of(extension, packet), mpls_of(packet, oui)

Standards: RFC 2332, RFC 2735 (error codes), Cisco's additions as FRR and tcpdump know them.
"""
