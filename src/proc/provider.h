/*
 * provider.h - the provider process: the only one that talks to the internet, and the only one that holds keys of remote models.
 *
 * Neither the supervisor, which alone writes data, nor the workers, which clients reach, run libcurl or see a key. This process runs both, and has no data:
 * it inherits a channel and the configuration (heritage.h), reads keys and certificates, and then cannot open anything but what resolving names and
 * verifying certificates needs. It may be killed, stopped or broken into at any instruction; what it says is checked (provider_frames.h), and what
 * it does not say in time the supervisor gives up (providers.h).
 */
#ifndef QUIRE_PROC_PROVIDER_H
#define QUIRE_PROC_PROVIDER_H

/* argv of --provider. Returns an exit code. */
int provider_main(const char *parent);

#endif
