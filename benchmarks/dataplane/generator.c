/* Fills a device with packets: generator DEVICE encap|decap|swap SIZE SECONDS [KEY]
 *                              generator DEVICE frames FILE SECONDS
 *
 * encap: Ethernet + IPv4/UDP of SIZE octets to 10.64.0.0/16, 256 prefixes, 1024 packets in turn.
 * decap, swap: the same inside Ethernet + IPv4 + GRE (+ KEY) + label 100..355, from 192.0.2.2 to 192.0.2.1.
 * frames: those of a file, in turn: two octets of length (of this machine's order) before each.
 * Prints how many it sent. With RATE in the environment: so many a second, else as many as it can.
 */
#define _GNU_SOURCE
#include <arpa/inet.h>
#include <linux/if_packet.h>
#include <net/ethernet.h>
#include <net/if.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#define FRAMES 1024
#define MOST (1 << 17)
#define BATCH 64

static unsigned char frame[FRAMES][2048];

static void put16(unsigned char *at, unsigned v) { at[0] = v >> 8; at[1] = v; }
static void put32(unsigned char *at, uint32_t v) { put16(at, v >> 16); put16(at + 2, v & 0xffff); }

static unsigned char *ipv4(unsigned char *at, int size, int protocol, uint32_t from, uint32_t to)
{
	memset(at, 0, 20);
	at[0] = 0x45;
	put16(at + 2, size);
	at[8] = 64;
	at[9] = protocol;
	put32(at + 12, from);
	put32(at + 16, to);
	unsigned sum = 0;
	for (int i = 0; i < 20; i += 2)
		sum += at[i] << 8 | at[i + 1];
	sum = (sum & 0xffff) + (sum >> 16);
	put16(at + 10, ~(sum + (sum >> 16)) & 0xffff);
	return at + 20;
}

static unsigned char *kept[MOST];
static int length[MOST];

static int load(const char *name)
{
	FILE *file = fopen(name, "rb");
	unsigned short size;
	int count = 0;
	while (file && count < MOST && fread(&size, 2, 1, file) == 1) {
		kept[count] = malloc(size);
		if (!kept[count] || fread(kept[count], 1, size, file) != size)
			return 0;
		length[count++] = size;
	}
	return count;
}

static double seconds(void)
{
	struct timespec t;
	clock_gettime(CLOCK_MONOTONIC, &t);
	return t.tv_sec + t.tv_nsec * 1e-9;
}

int main(int count, char **words)
{
	if (count < 5)
		return 2;
	int filed = !strcmp(words[2], "frames"), frames = filed ? load(words[3]) : FRAMES;
	int plain = !strcmp(words[2], "encap"), size = atoi(words[3]), keyed = count > 5;
	int outer = plain ? 0 : 20 + 4 + (keyed ? 4 : 0) + 4;
	int fd = socket(AF_PACKET, SOCK_RAW, 0), one = 1;
	struct sockaddr_ll address = { .sll_family = AF_PACKET, .sll_protocol = htons(ETH_P_IP),
				       .sll_ifindex = if_nametoindex(words[1]) };
	if (!frames || fd < 0 || bind(fd, (void *)&address, sizeof address)) {
		perror(words[1]);
		return 1;
	}
	setsockopt(fd, SOL_PACKET, PACKET_QDISC_BYPASS, &one, sizeof one);
	for (int i = 0; i < FRAMES && !filed; i++) {
		unsigned char *at = frame[i];
		int j = i & 255;
		memcpy(at, plain ? "\2\0\0\0\0\1\2\0\0\0\0\2\x08\0" : "\2\0\0\0\1\1\2\0\0\0\1\2\x08\0", 14);
		at += 14;
		if (!plain) {
			at = ipv4(at, outer + size, 47, 0xC0000202, 0xC0000201);
			put32(at, keyed ? 0x20008847 : 0x8847);
			at += 4;
			if (keyed) {
				put32(at, strtoul(words[5], NULL, 0));
				at += 4;
			}
			put32(at, (uint32_t)(100 + j) << 12 | 0x100 | 64);
			at += 4;
		}
		at = ipv4(at, size, 17, 0x0A010002, 0x0A400000 | j << 8 | (i * 7 & 255));
		put16(at, 12345);
		put16(at + 2, 9);
		put16(at + 4, size - 20);
		kept[i] = frame[i];
		length[i] = 14 + outer + size;
	}
	struct mmsghdr message[BATCH];
	struct iovec part[BATCH];
	unsigned long sent = 0;
	int next = 0;
	double rate = getenv("RATE") ? atof(getenv("RATE")) : 0, begun = seconds();
	for (double end = begun + atof(words[4]); seconds() < end;) {
		memset(message, 0, sizeof message);
		for (int i = 0; i < BATCH; i++) {
			part[i] = (struct iovec){ kept[next], length[next] };
			message[i].msg_hdr = (struct msghdr){ .msg_iov = &part[i], .msg_iovlen = 1 };
			next = (next + 1) % frames;
		}
		int now = sendmmsg(fd, message, BATCH, 0);
		sent += now > 0 ? now : 0;
		while (rate && seconds() < begun + sent / rate)
			usleep(200);
	}
	printf("%lu\n", sent);
	return 0;
}
