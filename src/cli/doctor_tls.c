/* doctor_tls.c - the certificate that nginx's site shows: its time, its names, its key. By OpenSSL's own reading. */
#include "cli/doctor.h"

#include "base/io.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/pem.h>
#include <openssl/x509v3.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PEM_MAX = 1 << 20, ENDS_SOON_DAYS = 14 };

static void time_text(const ASN1_TIME *t, char out[32]) {
    struct tm tm = {0};
    out[0] = '\0';
    if (ASN1_TIME_to_tm(t, &tm) == 1)
        (void)strftime(out, 32, "%Y-%m-%dT%H:%M:%SZ", &tm);
}

static void judge_time(struct doctor *d, const char *path, const X509 *certificate) {
    char text[32];
    time_t now = (time_t)(d->now_us / 1000000), soon = now + ENDS_SOON_DAYS * 86400;
    const ASN1_TIME *from = X509_get0_notBefore(certificate), *until = X509_get0_notAfter(certificate);
    time_text(until, text);
    if (X509_cmp_time(until, &now) < 0)
        doctor_find(d, TROUBLE_CERTIFICATE_EXPIRED, path, "it was valid until %s", text);
    else if (X509_cmp_time(until, &soon) < 0)
        doctor_find(d, TROUBLE_CERTIFICATE_ENDS, path, "it is valid until %s", text);
    time_text(from, text);
    if (X509_cmp_time(from, &now) > 0)
        doctor_find(d, TROUBLE_CERTIFICATE_EARLY, path, "it is valid from %s", text);
}

static void judge_name(struct doctor *d, const char *path, X509 *certificate, const char *name) {
    if (name[0] == '\0')
        return;
    if (X509_check_host(certificate, name, 0, 0, NULL) != 1 && X509_check_ip_asc(certificate, name, 0) != 1)
        doctor_find(d, TROUBLE_CERTIFICATE_NAME, path, "it is not for %s", name);
}

static EVP_PKEY *read_key(struct slice text) {
    BIO *bio = BIO_new_mem_buf(text.data, (int)text.len);
    /* Without a pass phrase: nginx would ask for one, too. */
    EVP_PKEY *key = bio == NULL ? NULL : PEM_read_bio_PrivateKey(bio, NULL, NULL, (void *)(uintptr_t)"");
    BIO_free(bio);
    return key;
}

static void judge_key(struct doctor *d, const char *path, X509 *certificate, const char *key_path, struct slice key_text) {
    if (key_text.len == 0)
        return;
    EVP_PKEY *key = read_key(key_text);
    if (key == NULL)
        doctor_find(d, TROUBLE_CERTIFICATE_UNREADABLE, key_path, "it holds no private key in PEM that needs no pass phrase");
    else if (X509_check_private_key(certificate, key) != 1)
        doctor_find(d, TROUBLE_CERTIFICATE_KEY, path, "its key is not %s", key_path);
    EVP_PKEY_free(key);
    ERR_clear_error();
}

void doctor_judge_certificate(struct doctor *d, const char *path, struct slice text, const char *key_path, struct slice key_text, const char *name) {
    BIO *bio = BIO_new_mem_buf(text.len > 0 ? (const void *)text.data : "", (int)text.len);
    X509 *certificate = bio == NULL ? NULL : PEM_read_bio_X509(bio, NULL, NULL, NULL);
    BIO_free(bio);
    if (certificate == NULL) {
        ERR_clear_error();
        doctor_find(d, TROUBLE_CERTIFICATE_UNREADABLE, path, "it holds no certificate in PEM");
        return;
    }
    judge_time(d, path, certificate);
    judge_name(d, path, certificate, name);
    judge_key(d, path, certificate, key_path, key_text);
    X509_free(certificate);
}

/* nginx counts names from its configuration's directory. False: the site does not say, or by a variable. */
static bool file_of(const struct doctor *d, const char *directive, char *out, size_t room) {
    size_t at = nginx_setting(&d->nginx, d->site, directive);
    const char *word = at == NGINX_NONE ? "" : nginx_word(&d->nginx, at, 1);
    if (word[0] == '\0' || strchr(word, '$') != NULL || strncmp(word, "data:", 5) == 0 || strncmp(word, "engine:", 7) == 0)
        return false;
    const char *slash = strrchr(d->nginx_path, '/');
    int directory = word[0] == '/' || slash == NULL ? 0 : (int)(slash - d->nginx_path) + 1;
    snprintf(out, room, "%.*s%s", directory, d->nginx_path, word);
    return true;
}

static void look_at_key(struct doctor *d, const char *path, struct buf *text) {
    struct status st = {0};
    struct stat s;
    if (stat(path, &s) == 0 && (s.st_mode & S_IROTH) != 0)
        doctor_find(d, TROUBLE_SECRET_EXPOSED, path, "ssl_certificate_key: its mode is %04o", (unsigned)s.st_mode & 07777U);
    if (io_read_file(AT_FDCWD, path, PEM_MAX, text, &st))
        return;
    buf_reset(text);
    if (st.sys_errno == EACCES)
        doctor_skip(d, path, "this user may not read it");
    else
        doctor_find(d, TROUBLE_CERTIFICATE_UNREADABLE, path, "%s", st.detail);
}

/* The first server_name that is a name: no catch-all, pattern or variable. */
static const char *name_of_site(const struct doctor *d) {
    size_t at = nginx_setting(&d->nginx, d->site, "server_name");
    for (unsigned n = 1; at != NGINX_NONE && n < d->nginx.all[at].count; n++)
        if (strpbrk(nginx_word(&d->nginx, at, n), "*~$_") == NULL)
            return nginx_word(&d->nginx, at, n);
    return "";
}

void doctor_look_at_certificate(struct doctor *d) {
    char path[DOCTOR_WHERE_MAX], key_path[DOCTOR_WHERE_MAX];
    struct buf text = {0}, key = {0};
    struct status st = {0};
    if (!d->has_nginx || d->site == NGINX_NONE || !file_of(d, "ssl_certificate", path, sizeof path) || !file_of(d, "ssl_certificate_key", key_path, sizeof key_path))
        return;
    look_at_key(d, key_path, &key);
    if (io_read_file(AT_FDCWD, path, PEM_MAX, &text, &st)) {
        doctor_judge_certificate(d, path, buf_slice(&text), key_path, buf_slice(&key), name_of_site(d));
        snprintf(d->cacert, sizeof d->cacert, "%s", path);
    } else if (st.sys_errno == EACCES) {
        d->certificate_unseen = true;
        doctor_skip(d, path, "this user may not read it");
    } else {
        doctor_find(d, TROUBLE_CERTIFICATE_UNREADABLE, path, "%s", st.detail);
    }
    if (key.len > 0)
        OPENSSL_cleanse(key.data, key.len);
    buf_fini(&key);
    buf_fini(&text);
}
