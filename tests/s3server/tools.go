//go:build tools

// Package s3server pins the storage that tests/integration/s3.bats talks to (tests/lib/s3_server builds it).
package s3server

import _ "github.com/versity/versitygw/cmd/versitygw"
