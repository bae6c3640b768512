/*
 * embed.c - how fast the embedding models and the chunker are, and how well a model finds.
 *
 *   embed                     texts per second at several lengths, on one thread and on every CPU; megabytes per second of the chunker
 *   embed --texts FILE        texts per second on one thread of the lines of a file; see bench/embed-beside
 *   embed --pairs FILE [N]    finds the text of each of N pairs (12000) by its title, among all N; see bench/apt-pairs
 *
 * With --model FILE before these, the model of a file (data/models) in place of hash-384.
 *
 * The texts of the first table are made up: words of a fixed seed, the common ones common as in natural language (Zipf).
 * Mean reciprocal rank at 10: the mean over titles of 1/rank of the text that belongs to it, 0 below rank 10.
 */
#include "base/clock.h"
#include "base/io.h"
#include "embed/chunker.h"
#include "embed/static_model.h"
#include "index/distance.h"

#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define BATCH 64
#define MAX_THREADS 64
#define VOCABULARY 20000
#define QUERY_EVERY 4
#define RANKS 10
#define REPEATS 4

struct job {
    const struct embedder *model;
    const struct slice *texts;
    size_t count;
    float *out;
};

static void die(const char *what) {
    fprintf(stderr, "bench/embed: %s\n", what);
    exit(EXIT_FAILURE);
}

static void *allocate(size_t size) {
    void *p = malloc(size);
    if (p == NULL) {
        die("out of memory");
    }
    return p;
}

static void *run_job(void *arg) {
    const struct job *job = arg;
    for (size_t i = 0; i < job->count; i += BATCH) {
        struct status st;
        size_t count = job->count - i < BATCH ? job->count - i : BATCH;
        if (!job->model->embed(job->model, EMBED_DOCUMENT, job->texts + i, count, job->out + i * job->model->dimension, &st)) {
            die(st.detail);
        }
    }
    return NULL;
}

/* Seconds that it takes to embed all texts with so many threads. */
static double embed_all(const struct job *all, size_t threads) {
    pthread_t thread[MAX_THREADS];
    struct job part[MAX_THREADS];
    int64_t begin = clock_monotonic_ns();
    for (size_t t = 0; t < threads; t++) {
        size_t first = all->count * t / threads;
        part[t] = *all;
        part[t].texts += first;
        part[t].count = all->count * (t + 1) / threads - first;
        part[t].out += first * all->model->dimension;
        if (pthread_create(&thread[t], NULL, run_job, &part[t]) != 0) {
            die("no thread");
        }
    }
    for (size_t t = 0; t < threads; t++) {
        pthread_join(thread[t], NULL);
    }
    return (double)(clock_monotonic_ns() - begin) / 1e9;
}

/* --- made-up texts -------------------------------------------------------------------------------------------------- */

static double uniform(void) {
    return (double)random() / (double)RAND_MAX;
}

/* The word of a rank: 1 to 13 letters, the common ones short, the same on every run. */
static void put_word(struct buf *out, size_t rank) {
    static const char *const syllables[] = {"ba", "ter", "lo", "in", "sa",  "mi", "re", "con",
                                            "du", "ver", "ga", "st", "ple", "o",  "ki", "nu"};
    for (size_t rest = rank + 1; rest > 0; rest /= 16) {
        buf_put_str(out, syllables[rest % 16]);
    }
}

/* Ranks as Zipf has them: log-uniform. */
static void put_text(struct buf *out, size_t length) {
    size_t end = out->len + length;
    while (out->len < end) {
        double rank = 1;
        for (double left = uniform() * 14.3; left > 1; left -= 1) {
            rank *= 2; /* 2^14.3 = VOCABULARY */
        }
        put_word(out, (size_t)(rank * (1 + uniform())) % VOCABULARY);
        buf_put_str(out, random() % 12 == 0 ? ". " : " ");
    }
    out->len = end;
}

static void measure_length(const struct embedder *model, size_t length, size_t cpus) {
    const size_t bytes = (size_t)32 << 20;
    size_t count = bytes / length > 50000 ? 50000 : bytes / length;
    struct buf text;
    buf_init(&text);
    for (size_t i = 0; i < count; i++) {
        put_text(&text, length);
    }
    if (!buf_ok(&text)) {
        die("out of memory");
    }
    struct slice *texts = allocate(count * sizeof *texts);
    for (size_t i = 0; i < count; i++) {
        texts[i] = slice_of(text.data + i * length, length);
    }
    struct job job = {model, texts, count, allocate(count * model->dimension * sizeof(float))};
    (void)embed_all(&job, cpus); /* touches the memory first */
    double one = embed_all(&job, 1);
    double all = embed_all(&job, cpus);
    printf("%8zu  %12.0f  %10.2f  %10zu  %12.0f\n", length, (double)count / one, one * 1e6 / (double)count, cpus,
           (double)count / all);
    free(job.out);
    free(texts);
    buf_fini(&text);
}

/* A line break for every 14th blank, a paragraph for every 100th, with a heading before it: as Markdown has them. */
static void put_lines(struct buf *text) {
    for (size_t i = 0, blanks = 0; i + 3 < text->len; i++) {
        blanks += text->data[i] == ' ';
        if (text->data[i] == ' ' && blanks % 14 == 0) {
            memcpy(text->data + i, blanks % 98 == 0 ? "\n\n# " : "\n", blanks % 98 == 0 ? 4 : 1);
        }
    }
}

static void measure_chunker(const struct embedder *model) {
    const size_t length = (size_t)1 << 20;
    static const char *const formats[] = {"text", "Markdown"};
    struct buf text;
    struct status st;
    buf_init(&text);
    put_text(&text, length);
    if (!buf_check(&text, &st)) {
        die(st.detail);
    }
    put_lines(&text);
    for (int format = TEXT_PLAIN; format <= TEXT_MARKDOWN; format++) {
        const struct chunking how = {256, 32, (enum text_format)format, model->vocabulary, SIZE_MAX};
        int64_t best = INT64_MAX;
        size_t count = 0;
        for (int round = 0; round < 5; round++) {
            struct chunk_list list;
            int64_t begin = clock_monotonic_ns();
            if (!chunker_cut(buf_slice(&text), &how, &list, &st)) {
                die(st.detail);
            }
            int64_t took = clock_monotonic_ns() - begin;
            best = took < best ? took : best;
            count = list.count;
            chunk_list_fini(&list);
        }
        printf("%schunker: 1 MiB of %s in %.1f ms at best, %zu chunks\n", format == TEXT_PLAIN ? "\n" : "", formats[format], (double)best / 1e6, count);
    }
    buf_fini(&text);
}

static void speed(const struct embedder *model, size_t cpus) {
    static const size_t lengths[] = {50, 200, 500, 1000, 4000};
    printf("%s, texts per second\n\n%8s  %12s  %10s  %10s  %12s\n", model->name, "bytes", "one thread", "us a text", "threads",
           "together");
    for (size_t i = 0; i < sizeof lengths / sizeof lengths[0]; i++) {
        measure_length(model, lengths[i], cpus);
    }
    measure_chunker(model);
}

/* --- pairs ---------------------------------------------------------------------------------------------------------- */

struct pairs {
    struct slice *titles;
    struct slice *texts;
    size_t count;
};

static char *read_all(const char *path, size_t *ret_length) {
    FILE *f = fopen(path, "rb");
    if (f == NULL) {
        die("cannot open the file of pairs");
    }
    size_t cap = (size_t)64 << 20;
    char *data = allocate(cap);
    *ret_length = fread(data, 1, cap, f);
    fclose(f);
    return data;
}

/* Evenly spaced lines, so that near duplicates, which stand together, do not all come in. */
static struct pairs pairs_of(char *data, size_t length, size_t wanted) {
    size_t lines = 0;
    for (size_t i = 0; i < length; i++) {
        lines += data[i] == '\n';
    }
    wanted = wanted < lines ? wanted : lines;
    struct pairs pairs = {allocate((wanted + 1) * sizeof(struct slice)), allocate((wanted + 1) * sizeof(struct slice)), 0};
    char *line = data;
    for (size_t n = 0; n < lines && pairs.count < wanted; n++) {
        char *end = memchr(line, '\n', length - (size_t)(line - data));
        char *tab = memchr(line, '\t', (size_t)(end - line));
        if (tab != NULL && n * wanted / lines >= pairs.count) {
            pairs.titles[pairs.count] = slice_of(line, (size_t)(tab - line));
            pairs.texts[pairs.count++] = slice_of(tab + 1, (size_t)(end - tab - 1));
        }
        line = end + 1;
    }
    return pairs;
}

static float product(const float *a, const float *b, size_t dimension) {
    float sum[8] = {0};
    for (size_t i = 0; i < dimension; i += 8) {
        for (size_t k = 0; k < 8; k++) {
            sum[k] += a[i + k] * b[i + k];
        }
    }
    return sum[0] + sum[1] + sum[2] + sum[3] + sum[4] + sum[5] + sum[6] + sum[7];
}

static size_t rank_of(const float *query, const float *texts, size_t count, size_t own, size_t dimension) {
    size_t rank = 1;
    float mine = product(query, texts + own * dimension, dimension);
    for (size_t i = 0; i < count && rank <= RANKS; i++) {
        rank += i != own && product(query, texts + i * dimension, dimension) >= mine;
    }
    return rank;
}

static void quality(const struct embedder *model, size_t cpus, const char *path, size_t wanted) {
    size_t length;
    char *data = read_all(path, &length);
    struct pairs p = pairs_of(data, length, wanted);
    struct job texts = {model, p.texts, p.count, allocate((p.count + 1) * model->dimension * sizeof(float))};
    struct job titles = {model, p.titles, p.count, allocate((p.count + 1) * model->dimension * sizeof(float))};
    double seconds = embed_all(&texts, cpus);
    (void)embed_all(&titles, cpus);
    double reciprocal = 0;
    size_t queries = 0;
    size_t found = 0;
    for (size_t i = 0; i < p.count; i += QUERY_EVERY) {
        size_t rank = rank_of(titles.out + i * model->dimension, texts.out, p.count, i, model->dimension);
        reciprocal += rank <= RANKS ? 1.0 / (double)rank : 0;
        found += rank <= RANKS;
        queries++;
    }
    printf("%s: %zu texts, %.0f a second on %zu threads; %zu titles: MRR@%d %.4f, found among the first %d: %.1f%%\n",
           model->name, p.count, (double)p.count / seconds, cpus, queries, RANKS, queries == 0 ? 0 : reciprocal / (double)queries,
           RANKS, queries == 0 ? 0 : 100.0 * (double)found / (double)queries);
    free(texts.out);
    free(titles.out);
    free(p.titles);
    free(p.texts);
    free(data);
}

/* --- texts of a file ------------------------------------------------------------------------------------------------ */

static void speed_of_lines(const struct embedder *model, const char *path) {
    size_t length;
    char *data = read_all(path, &length);
    size_t lines = 0;
    size_t bytes = 0;
    for (size_t i = 0; i < length; i++) {
        lines += data[i] == '\n';
    }
    struct slice *texts = allocate((lines + 1) * sizeof *texts);
    const char *line = data;
    for (size_t n = 0; n < lines; n++) {
        const char *end = memchr(line, '\n', length - (size_t)(line - data));
        texts[n] = slice_of(line, (size_t)(end - line));
        bytes += texts[n].len;
        line = end + 1;
    }
    struct job job = {model, texts, lines, allocate((lines + 1) * model->dimension * sizeof(float))};
    double best = embed_all(&job, 1);
    for (size_t i = 0; i < REPEATS; i++) {
        double seconds = embed_all(&job, 1);
        best = seconds < best ? seconds : best;
    }
    printf("%s: %.0f texts a second on one thread, of %zu bytes in the mean\n", model->name, (double)lines / best, lines == 0 ? 0 : bytes / lines);
    free(job.out);
    free(texts);
    free(data);
}

static void choose_model(const char *path, struct embedder *ret) {
    struct status st;
    int fd = -1;
    if (!distance_init(NULL)) {
        die("no distance kernel");
    }
    embed_hash_init(ret);
    if (path != NULL && (!io_open_at(AT_FDCWD, path, O_RDONLY, 0, &fd, &st) || !static_model_init(ret, fd, path, MODEL_VERIFY, &st))) {
        die(st.detail);
    }
    io_close(&fd);
}

int main(int argc, char **argv) {
    struct embedder model;
    srandom(1);
    long online = sysconf(_SC_NPROCESSORS_ONLN);
    size_t cpus = online < 1 ? 1 : online > MAX_THREADS ? MAX_THREADS : (size_t)online;
    bool file = argc >= 3 && strcmp(argv[1], "--model") == 0;
    choose_model(file ? argv[2] : NULL, &model);
    argc -= file ? 2 : 0;
    argv += file ? 2 : 0;
    if (argc == 1) {
        speed(&model, cpus);
    } else if (argc == 3 && strcmp(argv[1], "--texts") == 0) {
        speed_of_lines(&model, argv[2]);
    } else if ((argc == 3 || argc == 4) && strcmp(argv[1], "--pairs") == 0) {
        quality(&model, cpus, argv[2], argc == 4 ? strtoul(argv[3], NULL, 10) : 12000);
    } else {
        die("usage: embed [--model FILE] [--texts FILE | --pairs FILE [N]]");
    }
    if (model.fini != NULL) {
        model.fini(&model);
    }
    return EXIT_SUCCESS;
}
