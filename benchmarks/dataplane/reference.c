/* The yardstick: a forwarder in C on the same sockets as the raw backend, with recvmmsg and sendmmsg.
 *
 *   reference encap|decap|swap     c0: the customer's device, u0: the transport network's (192.0.2.1)
 *
 * encap: IPv4 from c0, longest prefix match in two hash tables (/24, /16), TTL, a label, GRE to a remote PE.
 * decap: GRE from the raw socket, label look-up, TTL, the packet to the customer's MAC.
 * swap:  GRE in, label look-up, label + 1000, label TTL, GRE out to 192.0.2.3.
 * It checks less than a router must (no header checksum, no outer addresses); that is part of what it costs us.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <poll.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#define BATCH 64
#define SLOTS 4096
#define LABELS 65536

struct route { int used; uint32_t prefix; uint32_t label; struct sockaddr_in pe; };
static struct route by24[SLOTS], by16[SLOTS];
static unsigned char known[LABELS];
static unsigned char packet[BATCH][2048], head[BATCH][8];
static struct mmsghdr in[BATCH], out[BATCH];
static struct iovec in_part[BATCH], out_part[BATCH][2];
static struct sockaddr_ll customer;
static struct sockaddr_in far_pe;

static unsigned slot(uint32_t prefix) { return (prefix * 2654435761u) >> 20; }

static void route_add(struct route *table, uint32_t prefix, uint32_t label, uint32_t pe)
{
	unsigned at = slot(prefix);
	while (table[at].used)
		at = (at + 1) % SLOTS;
	table[at] = (struct route){ 1, prefix, label, { .sin_family = AF_INET, .sin_addr.s_addr = htonl(pe) } };
}

static struct route *route_find(struct route *table, uint32_t prefix)
{
	for (unsigned at = slot(prefix); table[at].used; at = (at + 1) % SLOTS)
		if (table[at].prefix == prefix)
			return &table[at];
	return NULL;
}

static void fail(const char *what) { perror(what); exit(1); }

static void buffers(int fd)
{
	int size = 16 << 20;
	setsockopt(fd, SOL_SOCKET, SO_RCVBUFFORCE, &size, sizeof size);
	setsockopt(fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size);
}

static int attachment(const char *device, int protocol)
{
	int one = 1, fd = socket(AF_PACKET, SOCK_DGRAM, htons(protocol));
	struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_protocol = htons(protocol),
				       .sll_ifindex = if_nametoindex(device) };
	if (fd < 0 || bind(fd, (void *)&address, sizeof address))
		fail(device);
	buffers(fd);
	setsockopt(fd, SOL_PACKET, PACKET_IGNORE_OUTGOING, &one, sizeof one);
	setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one);
	return fd;
}

static uint32_t get32(const unsigned char *at) { uint32_t v; memcpy(&v, at, 4); return ntohl(v); }
static void put32(unsigned char *at, uint32_t v) { v = htonl(v); memcpy(at, &v, 4); }

static int age(unsigned char *ip)
{
	if (ip[8] < 2)
		return 0;
	unsigned sum = (ip[10] << 8 | ip[11]) + 0x100;
	sum += sum >> 16;
	ip[10] = sum >> 8;
	ip[11] = sum;
	return --ip[8];
}

static void queue(int n, unsigned char *at, size_t size, void *to, socklen_t to_size)
{
	out_part[n][0] = (struct iovec){ at, size };
	out[n].msg_hdr = (struct msghdr){ .msg_iov = out_part[n], .msg_iovlen = 1, .msg_name = to, .msg_namelen = to_size };
}

static int encap(int n, unsigned char *ip, int size)
{
	if (size < 20 || ip[0] >> 4 != 4)
		return n;
	uint32_t destination = get32(ip + 16);
	struct route *route = route_find(by24, destination >> 8);
	if (!route)
		route = route_find(by16, destination >> 16);
	int ttl = route ? age(ip) : 0;
	if (!ttl)
		return n;
	memcpy(head[n], "\0\0\x88\x47", 4);
	put32(head[n] + 4, route->label << 12 | 0x100 | ttl);
	queue(n, head[n], 8, &route->pe, sizeof route->pe);
	out_part[n][1] = (struct iovec){ ip, size };
	out[n].msg_hdr.msg_iovlen = 2;
	return n + 1;
}

static int decap(int n, unsigned char *ip, int size, int swap)
{
	unsigned char *gre = ip + (ip[0] & 15) * 4, *at = gre + 4;
	if (memcmp(gre + 2, "\x88\x47", 2))
		return n;
	at += (gre[0] & 0x80 ? 4 : 0) + (gre[0] & 0x20 ? 4 : 0);
	uint32_t entry = get32(at);
	if (entry >> 12 >= LABELS || !known[entry >> 12] || !(entry & 0x100))
		return n;
	if (swap) {
		if ((entry & 0xff) < 2)
			return n;
		put32(at, entry + (1000 << 12) - 1);
		queue(n, gre, ip + size - gre, &far_pe, sizeof far_pe);
		return n + 1;
	}
	at += 4;
	if (!age(at))
		return n;
	queue(n, at, ip + size - at, &customer, sizeof customer);
	return n + 1;
}

int main(int count, char **words)
{
	if (count < 2)
		return 2;
	int to_core = !strcmp(words[1], "encap"), swap = !strcmp(words[1], "swap");
	for (int j = 0; j < 256; j++) {
		route_add(by24, 0x0A4000 + j, 100 + j, 0xC0000202 + (j & 1));
		known[100 + j] = 1;
	}
	route_add(by16, 0x0A40, 16, 0xC0000202);
	far_pe = (struct sockaddr_in){ .sin_family = AF_INET, .sin_addr.s_addr = htonl(0xC0000203) };
	customer = (struct sockaddr_ll){ .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP),
					 .sll_ifindex = if_nametoindex("c0"), .sll_halen = 6 };
	memcpy(customer.sll_addr, "\x02\0\0\0\0\x02", 6);
	int core = socket(AF_INET, SOCK_RAW, IPPROTO_GRE);
	if (core < 0)
		fail("raw socket");
	buffers(core);
	int edge = attachment("c0", to_core ? ETH_P_ALL : ETH_P_IP);
	int from = to_core ? edge : core, to = to_core || swap ? core : edge;
	for (int i = 0; i < BATCH; i++) {
		in_part[i] = (struct iovec){ packet[i], sizeof packet[i] };
		in[i].msg_hdr = (struct msghdr){ .msg_iov = &in_part[i], .msg_iovlen = 1 };
	}
	for (;;) {
		int got = recvmmsg(from, in, BATCH, MSG_DONTWAIT, NULL), ready = 0;
		if (got <= 0) {
			struct pollfd wait = { from, POLLIN, 0 };
			poll(&wait, 1, -1);
			continue;
		}
		for (int i = 0; i < got; i++)
			ready = to_core ? encap(ready, packet[i], in[i].msg_len)
					: decap(ready, packet[i], in[i].msg_len, swap);
		for (int sent = 0; sent < ready;) {
			int now = sendmmsg(to, out + sent, ready - sent, 0);
			sent += now > 0 ? now : 1;
		}
	}
}
