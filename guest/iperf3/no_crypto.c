/*
 * Stands in for libiperf's authentication (--username, --rsa-*), so that the guest carries no OpenSSL, and for SCTP.
 *
 * scripts/build-guest links it before libiperf.a: with these names defined, the linker leaves the archive's
 * iperf_auth.o out. Each function refuses, and iperf3 then says that authentication could not be set up.
 */
#include <errno.h>
#include <stddef.h>

#define REFUSES(name) \
	int name(void)    \
	{                 \
		return -1;    \
	}
#define HAS_NO_KEY(name) \
	void *name(void)     \
	{                    \
		return NULL;     \
	}

REFUSES(check_authentication)
REFUSES(decode_auth_setting)
REFUSES(encode_auth_setting)
REFUSES(iperf_getpass)
REFUSES(test_load_private_key_from_file)
REFUSES(test_load_pubkey_from_file)
HAS_NO_KEY(load_privkey_from_base64)
HAS_NO_KEY(load_privkey_from_file)
HAS_NO_KEY(load_pubkey_from_base64)
HAS_NO_KEY(load_pubkey_from_file)

/* OpenSSL's: freeing the keys above, and the text of its last error. */
void EVP_PKEY_free(void *key)
{
	(void)key;
}

unsigned long ERR_get_error(void)
{
	return 0;
}

const char *ERR_error_string(unsigned long code, char *buffer)
{
	(void)code;
	(void)buffer;
	return "this iperf3 has no authentication";
}

/* libsctp's: the guest kernel has no SCTP. */
int sctp_bindx(void)
{
	errno = EPROTONOSUPPORT;
	return -1;
}
