-- What versions of each schema made, as SQLite keeps it: under `-- schema N` stands what is new, or another, since N.

-- schema 1
CREATE TABLE artifacts (
    build INTEGER NOT NULL,
    stage VARCHAR NOT NULL,
    path VARCHAR NOT NULL,
    size INTEGER NOT NULL,
    sha256 VARCHAR NOT NULL,
    kind VARCHAR NOT NULL,
    "offset" VARCHAR,
    PRIMARY KEY (build, stage, path),
    FOREIGN KEY(build) REFERENCES builds (id)
);
CREATE TABLE builds (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    project_id VARCHAR NOT NULL,
    commit_sha VARCHAR DEFAULT '' NOT NULL,
    commit_message VARCHAR,
    commit_author VARCHAR,
    branch VARCHAR,
    triggered_by VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    started_at DATETIME,
    completed_at DATETIME,
    duration FLOAT,
    build_output TEXT,
    test_results JSON,
    artifacts_path VARCHAR,
    created_at DATETIME NOT NULL,
    task_id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    target VARCHAR,
    "plan" JSON NOT NULL,
    args_key VARCHAR NOT NULL,
    priority INTEGER NOT NULL,
    reason VARCHAR,
    cancel_requested BOOLEAN NOT NULL,
    retry_of INTEGER,
    round INTEGER NOT NULL,
    FOREIGN KEY(project_id) REFERENCES projects (id),
    UNIQUE (task_id),
    FOREIGN KEY(retry_of) REFERENCES builds (id)
);
CREATE TABLE events (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    type VARCHAR NOT NULL,
    build INTEGER,
    ts DATETIME NOT NULL,
    data JSON NOT NULL
);
CREATE TABLE leases (
    resource VARCHAR NOT NULL,
    slot INTEGER NOT NULL,
    build INTEGER NOT NULL,
    stage VARCHAR,
    reason VARCHAR NOT NULL,
    taken_at DATETIME NOT NULL,
    PRIMARY KEY (resource, slot)
);
CREATE TABLE meta (
    "key" VARCHAR NOT NULL,
    value VARCHAR NOT NULL,
    PRIMARY KEY ("key")
);
CREATE TABLE projects (
    id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    path VARCHAR NOT NULL,
    status VARCHAR DEFAULT 'active' NOT NULL,
    target VARCHAR,
    branch VARCHAR,
    created_at DATETIME NOT NULL,
    PRIMARY KEY (id),
    UNIQUE (path)
);
CREATE TABLE stages (
    build INTEGER NOT NULL,
    stage VARCHAR NOT NULL,
    round INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    kind VARCHAR NOT NULL,
    host VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    reason VARCHAR,
    exit_code INTEGER,
    job_id VARCHAR,
    spec_sha256 VARCHAR,
    resolved JSON,
    started_at DATETIME,
    ended_at DATETIME,
    progress JSON,
    verdict JSON,
    PRIMARY KEY (build, stage, round, attempt),
    FOREIGN KEY(build) REFERENCES builds (id)
);
CREATE INDEX ix_builds_args_key ON builds (args_key);
CREATE INDEX ix_builds_project_id ON builds (project_id);
CREATE INDEX ix_builds_status ON builds (status);
CREATE INDEX ix_events_build ON events (build);
CREATE INDEX ix_leases_build ON leases (build);
CREATE INDEX ix_projects_name ON projects (name);
CREATE VIEW build_audit AS
SELECT b.task_id AS task, b.project_id AS project, b.plan AS spec, b.status AS status,
       COALESCE(b.reason, '') AS result, b.triggered_by AS who, e.type AS event, e.ts AS "when"
FROM builds b JOIN events e ON e.build = b.id;
CREATE TRIGGER events_remain BEFORE DELETE ON events WHEN OLD.type != 'workflow.progress'
       BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
CREATE TRIGGER events_stay BEFORE UPDATE ON events
       BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;

-- schema 2
CREATE TABLE stages (
    build INTEGER NOT NULL,
    stage VARCHAR NOT NULL,
    round INTEGER NOT NULL,
    attempt INTEGER NOT NULL,
    kind VARCHAR NOT NULL,
    host VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    reason VARCHAR,
    exit_code INTEGER,
    job_id VARCHAR,
    spec_sha256 VARCHAR,
    resolved JSON,
    started_at DATETIME,
    ended_at DATETIME,
    progress JSON,
    verdict JSON,
    unreachable_since DATETIME,
    PRIMARY KEY (build, stage, round, attempt),
    FOREIGN KEY(build) REFERENCES builds (id)
);

-- schema 3
CREATE TABLE callbacks (
    id INTEGER NOT NULL,
    task_id VARCHAR NOT NULL,
    event VARCHAR NOT NULL,
    build INTEGER NOT NULL,
    url TEXT NOT NULL,
    body TEXT NOT NULL,
    status VARCHAR NOT NULL,
    attempts INTEGER NOT NULL,
    created_at DATETIME NOT NULL,
    next_at DATETIME,
    last_error TEXT,
    PRIMARY KEY (id),
    UNIQUE (task_id, event),
    FOREIGN KEY(build) REFERENCES builds (id)
);
CREATE INDEX ix_callbacks_next_at ON callbacks (next_at);

-- schema 4
CREATE TABLE tokens (
    id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    sha256 VARCHAR NOT NULL,
    scope VARCHAR NOT NULL,
    created_at DATETIME NOT NULL,
    expires_at DATETIME,
    used_at DATETIME,
    PRIMARY KEY (id),
    UNIQUE (name)
);

-- schema 5
CREATE TABLE deliveries (
    id VARCHAR NOT NULL,
    received_at DATETIME NOT NULL,
    said TEXT,
    PRIMARY KEY (id)
);
CREATE TABLE projects (
    id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    path VARCHAR NOT NULL,
    status VARCHAR DEFAULT 'active' NOT NULL,
    target VARCHAR,
    branch VARCHAR,
    created_at DATETIME NOT NULL,
    source VARCHAR,
    reason VARCHAR,
    synced_at DATETIME,
    PRIMARY KEY (id),
    UNIQUE (path)
);

-- schema 6
CREATE TABLE deliveries (
    id VARCHAR NOT NULL,
    received_at DATETIME NOT NULL,
    said TEXT,
    push JSON,
    PRIMARY KEY (id)
);

-- schema 7
CREATE TABLE schedules (
    name VARCHAR NOT NULL,
    rule VARCHAR NOT NULL,
    done_until DATETIME NOT NULL,
    build INTEGER,
    said TEXT,
    PRIMARY KEY (name)
);
CREATE INDEX ix_builds_counts ON builds (project_id, status, priority);
CREATE INDEX ix_builds_served ON builds (project_id, started_at);
CREATE INDEX ix_builds_to_cancel ON builds (status) WHERE cancel_requested IS 1;

-- schema 8
CREATE TABLE builds (
    id INTEGER NOT NULL PRIMARY KEY AUTOINCREMENT,
    project_id VARCHAR NOT NULL,
    commit_sha VARCHAR DEFAULT '' NOT NULL,
    commit_message VARCHAR,
    commit_author VARCHAR,
    branch VARCHAR,
    triggered_by VARCHAR NOT NULL,
    status VARCHAR NOT NULL,
    started_at DATETIME,
    completed_at DATETIME,
    duration FLOAT,
    build_output TEXT,
    test_results JSON,
    artifacts_path VARCHAR,
    created_at DATETIME NOT NULL,
    task_id VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    target VARCHAR,
    "plan" JSON NOT NULL,
    args_key VARCHAR NOT NULL,
    priority INTEGER NOT NULL,
    reason VARCHAR,
    cancel_requested BOOLEAN NOT NULL,
    retry_of INTEGER,
    round INTEGER NOT NULL,
    place VARCHAR,
    machine VARCHAR,
    worker VARCHAR,
    claim INTEGER DEFAULT '0' NOT NULL,
    FOREIGN KEY(project_id) REFERENCES projects (id),
    UNIQUE (task_id),
    FOREIGN KEY(retry_of) REFERENCES builds (id)
);
CREATE TABLE workers (
    id VARCHAR NOT NULL,
    machine VARCHAR NOT NULL,
    name VARCHAR NOT NULL,
    home VARCHAR NOT NULL,
    pid INTEGER NOT NULL,
    version VARCHAR NOT NULL,
    state VARCHAR NOT NULL,
    number INTEGER,
    started_at DATETIME NOT NULL,
    seen_at DATETIME NOT NULL,
    until DATETIME NOT NULL,
    PRIMARY KEY (id)
);
CREATE TRIGGER events_remain BEFORE DELETE ON events
       WHEN OLD.type != 'workflow.progress'
        AND NOT EXISTS (SELECT 1 FROM meta WHERE key = 'events_from' AND OLD.id < CAST(value AS INTEGER))
       BEGIN SELECT RAISE(ABORT, 'events are append-only'); END;
