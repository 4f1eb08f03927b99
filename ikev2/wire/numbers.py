"""Names of IKEv2's numbers (IANA "Internet Key Exchange Version 2 (IKEv2) Parameters"), as far as this package speaks of them.

A number without a name is no error: values keep plain integers, and `name_of` makes text of any.
"""

from __future__ import annotations

from enum import IntEnum

__all__ = [
    "FIRST_STATUS",
    "AttributeKind",
    "AuthMethod",
    "CertEncoding",
    "ConfigKind",
    "EncryptionId",
    "EsnId",
    "Exchange",
    "GroupId",
    "HashAlgorithm",
    "IdKind",
    "IntegrityId",
    "NotifyKind",
    "PayloadKind",
    "PrfId",
    "ProtocolId",
    "TransformKind",
    "TsKind",
    "is_error",
    "name_of",
    "transform_name",
]


def name_of(numbers: type[IntEnum], number: int) -> str:
    """For logs: `NO_PROPOSAL_CHOSEN`, or `NotifyKind 9999` for a number without a name."""
    try:
        return numbers(number).name
    except ValueError:
        return f"{numbers.__name__} {number}"


class Exchange(IntEnum):
    """RFC 7296 3.1, RFC 9242 3, RFC 9370 2.2.4."""

    IKE_SA_INIT = 34
    IKE_AUTH = 35
    CREATE_CHILD_SA = 36
    INFORMATIONAL = 37
    IKE_INTERMEDIATE = 43
    IKE_FOLLOWUP_KE = 44


class PayloadKind(IntEnum):
    """RFC 7296 3.2, RFC 7383 2.5. NONE ends a chain."""

    NONE = 0
    SA = 33
    KE = 34
    IDI = 35
    IDR = 36
    CERT = 37
    CERTREQ = 38
    AUTH = 39
    NONCE = 40
    NOTIFY = 41
    DELETE = 42
    VENDOR_ID = 43
    TSI = 44
    TSR = 45
    SK = 46
    CP = 47
    EAP = 48
    SKF = 53


class ProtocolId(IntEnum):
    """RFC 7296 3.3.1."""

    NONE = 0
    IKE = 1
    AH = 2
    ESP = 3


class TransformKind(IntEnum):
    """RFC 7296 3.3.2, RFC 9370 3.1 (additional key exchanges)."""

    ENCR = 1
    PRF = 2
    INTEG = 3
    GROUP = 4
    ESN = 5
    ADDKE1 = 6
    ADDKE2 = 7
    ADDKE3 = 8
    ADDKE4 = 9
    ADDKE5 = 10
    ADDKE6 = 11
    ADDKE7 = 12


class EncryptionId(IntEnum):
    """Transform type 1."""

    DES_IV64 = 1
    DES = 2
    TRIPLE_DES = 3
    RC5 = 4
    IDEA = 5
    CAST = 6
    BLOWFISH = 7
    NULL = 11
    AES_CBC = 12
    AES_CTR = 13
    AES_CCM_8 = 14
    AES_CCM_12 = 15
    AES_CCM_16 = 16
    AES_GCM_8 = 18
    AES_GCM_12 = 19
    AES_GCM_16 = 20
    NULL_AUTH_AES_GMAC = 21
    CAMELLIA_CBC = 23
    CHACHA20_POLY1305 = 28


class PrfId(IntEnum):
    """Transform type 2."""

    HMAC_MD5 = 1
    HMAC_SHA1 = 2
    AES128_XCBC = 4
    HMAC_SHA2_256 = 5
    HMAC_SHA2_384 = 6
    HMAC_SHA2_512 = 7
    AES128_CMAC = 8


class IntegrityId(IntEnum):
    """Transform type 3."""

    NONE = 0
    HMAC_MD5_96 = 1
    HMAC_SHA1_96 = 2
    AES_XCBC_96 = 5
    AES_CMAC_96 = 8
    HMAC_SHA2_256_128 = 12
    HMAC_SHA2_384_192 = 13
    HMAC_SHA2_512_256 = 14


class GroupId(IntEnum):
    """Transform type 4, and 6 to 12."""

    NONE = 0
    MODP_768 = 1
    MODP_1024 = 2
    MODP_1536 = 5
    MODP_2048 = 14
    MODP_3072 = 15
    MODP_4096 = 16
    MODP_6144 = 17
    MODP_8192 = 18
    ECP_256 = 19
    ECP_384 = 20
    ECP_521 = 21
    MODP_1024_160 = 22
    MODP_2048_224 = 23
    MODP_2048_256 = 24
    ECP_192 = 25
    ECP_224 = 26
    CURVE25519 = 31
    CURVE448 = 32
    ML_KEM_512 = 35
    ML_KEM_768 = 36
    ML_KEM_1024 = 37


class EsnId(IntEnum):
    """Transform type 5."""

    NO_ESN = 0
    ESN = 1


_TRANSFORMS: dict[int, type[IntEnum]] = {
    TransformKind.ENCR: EncryptionId,
    TransformKind.PRF: PrfId,
    TransformKind.INTEG: IntegrityId,
    TransformKind.GROUP: GroupId,
    TransformKind.ESN: EsnId,
} | dict.fromkeys(range(TransformKind.ADDKE1, TransformKind.ADDKE7 + 1), GroupId)


def transform_name(kind: int, number: int, key_length: int = 0) -> str:
    """`AES_GCM_16-256`, `CURVE25519`; without a name `transform 99/3`."""
    numbers = _TRANSFORMS.get(kind)
    text = name_of(numbers, number) if numbers is not None else f"transform {kind}/{number}"
    return f"{text}-{key_length}" if key_length else text


class IdKind(IntEnum):
    """RFC 7296 3.5, RFC 7619 2.2 (NULL)."""

    IPV4_ADDR = 1
    FQDN = 2
    RFC822_ADDR = 3
    IPV6_ADDR = 5
    DER_ASN1_DN = 9
    DER_ASN1_GN = 10
    KEY_ID = 11
    NULL = 13


class CertEncoding(IntEnum):
    """RFC 7296 3.6."""

    PKCS7 = 1
    PGP = 2
    DNS_SIGNED_KEY = 3
    X509_SIGNATURE = 4
    KERBEROS = 6
    CRL = 7
    ARL = 8
    SPKI = 9
    X509_ATTRIBUTE = 10
    RAW_RSA = 11
    HASH_URL_X509 = 12
    HASH_URL_BUNDLE = 13
    OCSP = 14
    RAW_PUBLIC_KEY = 15


class AuthMethod(IntEnum):
    """RFC 7296 3.8, RFC 4754 3, RFC 7427 3, RFC 7619 2.1."""

    RSA = 1
    PSK = 2
    DSS = 3
    ECDSA_256 = 9
    ECDSA_384 = 10
    ECDSA_521 = 11
    NULL = 13
    DIGITAL_SIGNATURE = 14


class HashAlgorithm(IntEnum):
    """In SIGNATURE_HASH_ALGORITHMS (RFC 7427 4, RFC 8420 2)."""

    SHA1 = 1
    SHA2_256 = 2
    SHA2_384 = 3
    SHA2_512 = 4
    IDENTITY = 5


class TsKind(IntEnum):
    """RFC 7296 3.13.1."""

    IPV4_ADDR_RANGE = 7
    IPV6_ADDR_RANGE = 8


class ConfigKind(IntEnum):
    """RFC 7296 3.15."""

    REQUEST = 1
    REPLY = 2
    SET = 3
    ACK = 4


class AttributeKind(IntEnum):
    """Configuration attributes (RFC 7296 3.15.1, RFC 5739, RFC 7651, RFC 8598); from 28672 on Cisco's Unity numbers, which
    are out of the private range."""

    INTERNAL_IP4_ADDRESS = 1
    INTERNAL_IP4_NETMASK = 2
    INTERNAL_IP4_DNS = 3
    INTERNAL_IP4_NBNS = 4
    INTERNAL_IP4_DHCP = 6
    APPLICATION_VERSION = 7
    INTERNAL_IP6_ADDRESS = 8
    INTERNAL_IP6_DNS = 10
    INTERNAL_IP6_DHCP = 12
    INTERNAL_IP4_SUBNET = 13
    SUPPORTED_ATTRIBUTES = 14
    INTERNAL_IP6_SUBNET = 15
    MIP6_HOME_PREFIX = 16
    INTERNAL_IP6_LINK = 17
    INTERNAL_IP6_PREFIX = 18
    HOME_AGENT_ADDRESS = 19
    P_CSCF_IP4_ADDRESS = 20
    P_CSCF_IP6_ADDRESS = 21
    INTERNAL_DNS_DOMAIN = 25
    INTERNAL_DNSSEC_TA = 26
    UNITY_BANNER = 28672
    UNITY_SAVE_PASSWORD = 28673
    UNITY_DEF_DOMAIN = 28674
    UNITY_SPLITDNS_NAME = 28675
    UNITY_SPLIT_INCLUDE = 28676
    UNITY_NATT_PORT = 28677
    UNITY_LOCAL_LAN = 28678
    UNITY_PFS = 28679
    UNITY_FW_TYPE = 28680
    UNITY_BACKUP_SERVERS = 28681
    UNITY_DDNS_HOSTNAME = 28682


FIRST_STATUS = 16384
"""RFC 7296 3.10.1: notify types below this are errors, from it on they are status."""


class NotifyKind(IntEnum):
    """RFC 7296 3.10.1; with the RFC beside it where another defines it."""

    UNSUPPORTED_CRITICAL_PAYLOAD = 1
    INVALID_IKE_SPI = 4
    INVALID_MAJOR_VERSION = 5
    INVALID_SYNTAX = 7
    INVALID_MESSAGE_ID = 9
    INVALID_SPI = 11
    NO_PROPOSAL_CHOSEN = 14
    INVALID_KE_PAYLOAD = 17
    AUTHENTICATION_FAILED = 24
    SINGLE_PAIR_REQUIRED = 34
    NO_ADDITIONAL_SAS = 35
    INTERNAL_ADDRESS_FAILURE = 36
    FAILED_CP_REQUIRED = 37
    TS_UNACCEPTABLE = 38
    INVALID_SELECTORS = 39
    UNACCEPTABLE_ADDRESSES = 40  # RFC 4555
    UNEXPECTED_NAT_DETECTED = 41  # RFC 4555
    TEMPORARY_FAILURE = 43
    CHILD_SA_NOT_FOUND = 44
    STATE_NOT_FOUND = 47  # RFC 9370

    INITIAL_CONTACT = 16384
    SET_WINDOW_SIZE = 16385
    ADDITIONAL_TS_POSSIBLE = 16386
    IPCOMP_SUPPORTED = 16387
    NAT_DETECTION_SOURCE_IP = 16388
    NAT_DETECTION_DESTINATION_IP = 16389
    COOKIE = 16390
    USE_TRANSPORT_MODE = 16391
    HTTP_CERT_LOOKUP_SUPPORTED = 16392
    REKEY_SA = 16393
    ESP_TFC_PADDING_NOT_SUPPORTED = 16394
    NON_FIRST_FRAGMENTS_ALSO = 16395
    MOBIKE_SUPPORTED = 16396  # RFC 4555
    REDIRECT_SUPPORTED = 16406  # RFC 5685
    REDIRECT = 16407  # RFC 5685
    REDIRECTED_FROM = 16408  # RFC 5685
    EAP_ONLY_AUTHENTICATION = 16417  # RFC 5998
    CHILDLESS_IKEV2_SUPPORTED = 16418  # RFC 6023
    IKEV2_FRAGMENTATION_SUPPORTED = 16430  # RFC 7383
    SIGNATURE_HASH_ALGORITHMS = 16431  # RFC 7427
    INTERMEDIATE_EXCHANGE_SUPPORTED = 16438  # RFC 9242
    ADDITIONAL_KEY_EXCHANGE = 16441  # RFC 9370


def is_error(kind: int) -> bool:
    return kind < FIRST_STATUS
