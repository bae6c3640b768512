#!/usr/bin/env python3
"""dashboard.py - prints conf/grafana-dashboard.json: what stands where on it, without the thousand lines that Grafana wants for that.

  tools/dashboard.py > conf/grafana-dashboard.json        (a test holds them together)

Panels are laid out in rows of 24 columns from left to right, so none overlaps another. Every expression goes by the variables job and instance.
"""

import json

WIDTH = 24
SELECT = 'job="$job",instance=~"$instance"'
FAILED = 'class="5xx"'
SEARCHES = 'class="search"'
WRITES = 'class="write"'
SOURCE = {"type": "prometheus", "uid": "${datasource}"}


class Board:
    def __init__(self):
        self.panels = []
        self.x = self.y = self.height = 0

    def place(self, width, height):
        if self.x + width > WIDTH:
            self.x, self.y, self.height = 0, self.y + self.height, 0
        at = {"x": self.x, "y": self.y, "w": width, "h": height}
        self.x += width
        self.height = max(self.height, height)
        return at

    def row(self, title):
        self.x, self.y, self.height = WIDTH, self.y + self.height, 0
        self.add({"type": "row", "title": title, "collapsed": False, "panels": []}, WIDTH, 1)

    def add(self, panel, width, height):
        self.panels.append({"id": len(self.panels) + 1, "gridPos": self.place(width, height), **panel})

    def draw(self, kind, title, unit, targets, width=8, height=7, text="", **more):
        defaults = {"unit": unit, **more.pop("defaults", {})}
        if kind == "timeseries":
            defaults["custom"] = {"lineWidth": 1, "fillOpacity": 10, "showPoints": "never", **more.pop("custom", {})}
        self.add(
            {
                "type": kind,
                "title": title,
                "description": text,
                "datasource": SOURCE,
                "fieldConfig": {"defaults": defaults, "overrides": []},
                "options": more.pop("options", {"legend": {"displayMode": "list", "placement": "bottom", "showLegend": True},
                                                "tooltip": {"mode": "multi", "sort": "desc"}} if kind == "timeseries" else {}),
                "targets": [
                    {"refId": chr(ord("A") + i), "datasource": SOURCE, "expr": expr, "legendFormat": legend, "range": True, **extra}
                    for i, (expr, legend, extra) in enumerate((*t, {})[:3] for t in targets)
                ],
            },
            width,
            height,
        )

    def lines(self, title, unit, *targets, **more):
        self.draw("timeseries", title, unit, targets, **more)

    def number(self, title, unit, expr, steps, **more):
        thresholds = {"mode": "absolute", "steps": [{"color": color, "value": value} for value, color in steps]}
        self.draw("stat", title, unit, [(expr, "{{instance}}")], width=3, height=4, defaults={"thresholds": thresholds, "min": 0},
                  options={"reduceOptions": {"calcs": ["lastNotNull"], "fields": "", "values": False}, "colorMode": "background",
                           "graphMode": "none", "textMode": "value"}, **more)


def of(name, labels=""):
    return f"{name}{{{SELECT}{',' + labels if labels else ''}}}"


def rate(name, by="", labels=""):
    return f"sum by ({by}) (rate({of(name, labels)}[$__rate_interval]))"


def quantile(q, name, by="", labels=""):
    return f"histogram_quantile({q}, sum by ({'le, ' + by if by else 'le'}) (rate({of(name + '_bucket', labels)}[$__rate_interval])))"


def mean(name, by="", labels=""):
    return f"{rate(name + '_sum', by, labels)} / {rate(name + '_count', by, labels)}"


def age(name):
    return f"time() - ({of(name)} > 0)"


NAMED = f"* on (job, instance, library) group_left (name) {of('quire_library_info')}"


def glance(b):
    b.row("At a glance")
    good, bad, odd = "green", "red", "orange"
    b.number("Ready", "none", f"min({of('quire_ready')})", [(None, bad), (1, good)])
    b.number("Requests", "reqps", rate("quire_http_responses_total"), [(None, good)])
    errors = f"{rate('quire_http_responses_total', labels=FAILED)} / {rate('quire_http_responses_total')}"
    b.number("Answered with 5xx", "percentunit", errors, [(None, good), (0.001, odd), (0.01, bad)])
    b.number("Search, p99", "s", quantile(0.99, "quire_http_request_seconds", labels=SEARCHES), [(None, good), (0.02, odd), (0.05, bad)])
    b.number("Write, p99", "s", quantile(0.99, "quire_http_request_seconds", labels=WRITES), [(None, good), (0.5, odd), (1, bad)])
    b.number("Oldest snapshot age", "s", f"max({age('quire_snapshot_last_time_seconds')})", [(None, good), (43200, odd), (86400, bad)])
    b.number("Verified ago", "s", f"max({age('quire_snapshot_verified_time_seconds')})", [(None, good), (172800, odd), (259200, bad)])
    b.number("Disk left", "percentunit", f"min({of('quire_disk_available_bytes')} / {of('quire_disk_size_bytes')})", [(None, bad), (0.1, odd), (0.2, good)])


def requests(b):
    b.row("Requests")
    b.lines("Requests by route", "reqps", (f"topk(12, {rate('quire_http_requests_total', 'method, route')})", "{{method}} {{route}}"), width=12, height=8)
    b.lines("Requests by status", "reqps", (rate("quire_http_requests_total", "status"), "{{status}}"), height=8, width=6,
            custom={"stacking": {"mode": "normal", "group": "A"}})
    b.lines("Refused", "reqps", (rate("quire_auth_failures_total"), "no valid key"), (rate("quire_auth_denials_total"), "not allowed"),
            (rate("quire_writes_overdue_total"), "write overdue"), (rate("quire_queue_full_total"), "queue full"),
            (rate("quire_rejected_ops_total"), "by the committer"), height=8, width=6)
    b.lines("Time, p50", "s", (quantile(0.5, "quire_http_request_seconds", "class"), "{{class}}"))
    b.lines("Time, p99", "s", (quantile(0.99, "quire_http_request_seconds", "class"), "{{class}}"))
    b.draw("heatmap", "Time of searches", "s",
           [(f"sum by (le) (increase({of('quire_http_request_seconds_bucket', SEARCHES)}[$__rate_interval]))", "{{le}}",
             {"format": "heatmap"})],
           options={"calculate": False, "yAxis": {"unit": "s"}, "cellGap": 1, "color": {"mode": "scheme", "scheme": "Blues", "steps": 64},
                    "legend": {"show": False}, "tooltip": {"mode": "single", "showColorScale": False}})


def searches(b):
    b.row("Searches")
    b.lines("Searches by mode", "reqps", (rate("quire_searches_total", "mode"), "{{mode}}"), width=6)
    b.lines("Candidates of a search", "none",
            (f"{rate('quire_search_candidates_total', 'mode')} / {rate('quire_searches_total', 'mode')}", "{{mode}}"), width=6,
            text="Distances computed and postings scored, on average.")
    b.lines("Embedding, time of a request", "s", (mean("quire_embedding_seconds"), "mean"), (quantile(0.99, "quire_embedding_seconds"), "p99"), width=6)
    b.lines("Workers kept", "none", (f"sum({of('quire_streams')})", "streams and exports"), (f"sum({of('quire_min_lsn_waits')})", "waiting for min_lsn"),
            (f"sum({of('quire_workers_writing')})", "writing"), width=6)


def writes(b):
    b.row("Writes")
    b.lines("Commits and operations", "ops", (rate("quire_commits_total"), "batches"), (rate("quire_committed_ops_total"), "operations"),
            (rate("quire_append_failures_total"), "failed appends"))
    b.lines("Operations in a batch", "none", (mean("quire_commit_batch_ops"), "mean"), (quantile(0.99, "quire_commit_batch_ops"), "p99"))
    b.lines("What waits", "none", (f"sum({of('quire_queue_ops')})", "operations"), (f"sum({of('quire_queue_bytes')}) / 1048576", "MiB"))
    b.lines("Where a write's time goes, mean", "s", (mean("quire_commit_queue_seconds"), "waiting for its turn"), (mean("quire_commit_seconds"), "commit"),
            (mean("quire_wal_append_seconds"), "append"), (mean("quire_wal_sync_seconds"), "sync"), (mean("quire_publish_seconds"), "publication"))
    b.lines("The same, p99", "s", (quantile(0.99, "quire_commit_queue_seconds"), "waiting for its turn"), (quantile(0.99, "quire_commit_seconds"), "commit"),
            (quantile(0.99, "quire_wal_append_seconds"), "append"), (quantile(0.99, "quire_wal_sync_seconds"), "sync"),
            (quantile(0.99, "quire_publish_seconds"), "publication"))
    b.lines("Write path", "none", (f"max by (state) ({of('quire_write_path_state')})", "{{state}}"), defaults={"max": 1, "min": 0},
            custom={"lineInterpolation": "stepAfter"})


def snapshots(b):
    b.row("Log and snapshots")
    b.lines("Positions", "none", (of("quire_wal_lsn"), "log {{instance}}"), (of("quire_published_lsn"), "searches see {{instance}}"),
            (of("quire_checkpoint_last_lsn"), "checkpoint {{instance}}"), (of("quire_snapshot_last_lsn"), "snapshot {{instance}}"),
            (of("quire_snapshot_verified_lsn"), "verified {{instance}}"), (of("quire_wal_archived_lsn"), "archived {{instance}}"),
            (of("quire_wal_oldest_lsn"), "oldest in the log {{instance}}"))
    b.lines("Ages", "s", (age("quire_wal_last_time_seconds"), "last record {{instance}}"), (age("quire_checkpoint_last_time_seconds"), "checkpoint {{instance}}"),
            (age("quire_snapshot_last_time_seconds"), "snapshot {{instance}}"), (age("quire_snapshot_verified_time_seconds"), "verification {{instance}}"))
    b.lines("Not in a snapshot yet", "none", (of("quire_snapshot_pending_ops"), "operations {{instance}}"))
    b.lines("Log", "bytes", (of("quire_wal_bytes"), "segments {{instance}}"), (of("quire_wal_archive_lag_bytes"), "waiting for the archive {{instance}}"))
    b.lines("Appended", "Bps", (rate("quire_wal_appended_bytes_total", "instance"), "{{instance}}"))
    b.lines("Trouble", "none", (f"increase({of('quire_snapshot_failures_total')}[1h])", "snapshots failed {{instance}}"),
            (f"increase({of('quire_snapshot_verification_failures_total')}[1h])", "did not verify {{instance}}"),
            (f"increase({of('quire_checkpoint_failures_total')}[1h])", "checkpoints failed {{instance}}"),
            (f"increase({of('quire_wal_archive_failures_total')}[1h])", "archive failed {{instance}}"), text="Within the hour before.")
    b.lines("How long they took", "s", (of("quire_snapshot_last_duration_seconds"), "snapshot {{instance}}"),
            (of("quire_checkpoint_last_duration_seconds"), "checkpoint {{instance}}"), (of("quire_snapshot_cut_max_seconds"), "longest cut {{instance}}"))
    b.lines("Disk left", "bytes", (of("quire_disk_available_bytes"), "{{of}} {{instance}}"))
    b.lines("Size of the last snapshot", "bytes", (of("quire_snapshot_last_bytes"), "snapshot {{instance}}"), (of("quire_checkpoint_last_bytes"), "checkpoint {{instance}}"))


def backups(b):
    b.row("Backups off the machine")
    b.lines("Last backup", "s", (age("quire_backup_last_success_time_seconds"), "ago {{instance}}"), text="Nothing where quire backup has never run.")
    b.lines("Failed since", "none", (of("quire_backup_failures"), "backups {{instance}}"))
    b.lines("How far it goes", "none", (of("quire_backup_lsn"), "records in the storage {{instance}}"), (of("quire_backup_snapshot_lsn"), "newest snapshot there {{instance}}"),
            (of("quire_wal_lsn"), "log {{instance}}"))
    b.lines("In the storage", "bytes", (of("quire_backup_bytes"), "{{instance}}"))
    b.lines("Objects in the storage", "none", (of("quire_backup_objects"), "{{instance}}"))


def libraries(b):
    b.row("Libraries")
    b.lines("Arenas by what they hold", "bytes", (f"sum by (kind) ({of('quire_arena_bytes')})", "{{kind}}"), custom={"stacking": {"mode": "normal", "group": "A"}})
    b.lines("Chunks", "none", (f"topk(10, {of('quire_library_chunks')} {NAMED})", "{{name}}"))
    b.lines("Deleted slots, share", "percentunit",
            (f"topk(10, {of('quire_library_deleted_slots')} / ({of('quire_library_deleted_slots')} + {of('quire_library_chunks')} > 0) {NAMED})", "{{name}}"),
            text="Past optimize_dead_percent a library is optimized by itself.")
    b.lines("Not linked yet", "none", (f"topk(10, {of('quire_library_tail_slots')} {NAMED})", "{{name}}"), (f"sum({of('quire_index_tail_chunks')})", "chunks of all"))
    b.lines("Linked", "ops", (rate("quire_index_linked_chunks_total"), "chunks"))
    b.lines("How many", "none", (f"sum({of('quire_libraries')})", "libraries"), (f"sum({of('quire_libraries_shown')})", "shown by themselves"))


def embedding(b):
    b.row("Embedding and providers")
    b.lines("Texts embedded", "ops", (rate("quire_embedded_texts_total"), "for requests"), (rate("quire_background_embedded_chunks_total"), "in the background"))
    b.lines("Waiting for a vector", "none", (f"sum({of('quire_pending_vectors')})", "chunks"))
    b.lines("Re-embedding", "s", (age("quire_reembed_begun_time_seconds"), "after the start, for {{instance}}"),
            (age("quire_model_exchange_begun_time_seconds"), "exchange of a model, for {{instance}}"), (of("quire_reembed_seconds"), "the last one after a start {{instance}}"))
    b.lines("Provider errors", "reqps", (rate("quire_provider_errors_total", "model, kind"), "{{model}}: {{kind}}"))
    b.lines("Provider calls", "reqps", (rate("quire_provider_calls_total", "model"), "{{model}}"), (rate("quire_provider_retries_total", "model"), "{{model}}: again"))
    b.lines("Provider, time of a call", "s",
            (f"{rate('quire_provider_busy_seconds_total', 'model')} / {rate('quire_provider_calls_total', 'model')}", "{{model}}"))
    b.lines("Query vectors remembered", "percentunit",
            (f"{rate('quire_query_cache_hits_total', 'model')} / ({rate('quire_query_cache_hits_total', 'model')} + {rate('quire_query_cache_misses_total', 'model')})",
             "{{model}}"))


def processes(b):
    b.row("Processes")
    b.lines("Workers", "none", (of("quire_workers"), "alive {{instance}}"), (of("quire_workers_wanted"), "wanted {{instance}}"), width=6)
    b.lines("Restarts", "none", (f"increase({of('quire_worker_restarts_total')}[$__rate_interval])", "workers {{instance}}"),
            (f"increase({of('quire_watchdog_kills_total')}[$__rate_interval])", "ended by the watchdog {{instance}}"),
            (f"increase({of('quire_provider_process_restarts_total')}[$__rate_interval])", "provider process {{instance}}"),
            (f"changes({of('quire_start_time_seconds')}[$__rate_interval])", "the server {{instance}}"), width=6)
    b.lines("Processors", "none", (rate("quire_workers_cpu_seconds_total", "instance"), "workers {{instance}}"),
            (rate("process_cpu_seconds_total", "instance"), "supervisor {{instance}}"), width=6, text="One is one processor.")
    b.lines("Memory of the supervisor", "bytes", (of("process_resident_memory_bytes"), "{{instance}}"), width=6)
    b.lines("Descriptors", "none", (of("process_open_fds"), "open {{instance}}"), (of("process_max_fds"), "most {{instance}}"), width=6)
    b.lines("The lock", "none", (f"increase({of('quire_lock_waits_total')}[$__rate_interval])", "long waits {{instance}}"),
            (f"increase({of('quire_dead_readers_total')}[$__rate_interval])", "taken over from the dead {{instance}}"), width=6)
    b.lines("The last start", "s", (of("quire_startup_seconds"), "until it served {{instance}}"), (of("quire_recovery_phase_seconds"), "{{phase}} {{instance}}"), width=6)
    b.lines("Audit log", "ops", (rate("quire_audit_lines_total", "instance"), "lines {{instance}}"), (rate("quire_audit_lost_total", "instance"), "lost {{instance}}"), width=6)


def variable(name, label, query):
    return {"name": name, "label": label, "type": "query", "datasource": SOURCE, "definition": query, "refresh": 2, "sort": 1,
            "query": {"query": query, "refId": name}, "multi": name == "instance", "includeAll": name == "instance",
            "allValue": ".*" if name == "instance" else None, "current": {}, "hide": 0}


def main():
    b = Board()
    for part in (glance, requests, searches, writes, snapshots, backups, libraries, embedding, processes):
        part(b)
    print(json.dumps({
        "uid": "quire", "title": "Quire", "description": "A Quire server: what it does, how fast, and whether the data is safe.", "tags": ["quire"],
        "schemaVersion": 41, "version": 1, "editable": True, "graphTooltip": 1, "refresh": "30s", "timezone": "browser",
        "time": {"from": "now-6h", "to": "now"}, "annotations": {"list": []}, "links": [],
        "templating": {"list": [
            {"name": "datasource", "label": "Data source", "type": "datasource", "query": "prometheus", "current": {}, "hide": 0, "refresh": 1, "regex": ""},
            variable("job", "Job", "label_values(quire_build_info, job)"),
            variable("instance", "Instance", 'label_values(quire_build_info{job="$job"}, instance)'),
        ]},
        "panels": b.panels,
    }, indent=1))


main()
