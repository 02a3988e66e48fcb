package testenv

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"errors"
	"fmt"
	"io/fs"
	"net/http"
	"net/url"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/jackc/pgx/v5"
	"github.com/jackc/pgx/v5/pgconn"

	"example.com/failwell/shared/platform/postgres/migrate"
)

// What the tests of one binary share. Each of the two servers is started when
// the first test asks for it.
var (
	forPostgres = sync.OnceValues(func() (*Env, error) { return startShared(Options{WithoutRabbit: true}) })
	forRabbit   = sync.OnceValues(func() (*Env, error) { return startShared(Options{WithoutPostgres: true}) })
	shared      Env // whose Close closes them
)

func startShared(opts Options) (*Env, error) {
	env, err := Start(context.Background(), opts)
	if err == nil {
		shared.atClose(env.Close)
	}
	return env, err
}

// Main runs the tests of a package and stops afterwards what they started:
//
//	func TestMain(m *testing.M) { testenv.Main(m) }
func Main(m *testing.M) {
	code := m.Run()
	shared.Close()
	os.Exit(code)
}

// Postgres returns the URL of a database of this test's own, migrated with the
// directory migrations of fsys; nil leaves it empty. It is a clone of a
// template that is made once for each set of migrations, so it costs
// milliseconds, and it is dropped after the test.
func Postgres(t testing.TB, fsys fs.FS) string {
	t.Helper()
	env, err := forPostgres()
	if err != nil {
		t.Fatal(err)
	}
	ctx := context.Background()
	template := "template1"
	if fsys != nil {
		if template, err = ensureTemplate(ctx, env.PostgresURL, fsys); err != nil {
			t.Fatalf("template database: %v", err)
		}
	}
	name := "test_" + strings.ReplaceAll(uuid.NewString(), "-", "")
	if err := admin(ctx, env.PostgresURL, "CREATE DATABASE "+name+" TEMPLATE "+template); err != nil {
		t.Fatalf("clone database: %v", err)
	}
	t.Cleanup(func() {
		if err := admin(ctx, env.PostgresURL, "DROP DATABASE "+name+" WITH (FORCE)"); err != nil {
			t.Errorf("drop database: %v", err)
		}
	})
	return withDatabase(env.PostgresURL, name)
}

// ensureTemplate makes the template for these migrations if it is not there.
// Test binaries run side by side; the advisory lock lets one of them make it.
func ensureTemplate(ctx context.Context, server string, fsys fs.FS) (string, error) {
	name, err := templateName(fsys)
	if err != nil {
		return "", err
	}
	conn, err := pgx.Connect(ctx, server)
	if err != nil {
		return "", err
	}
	defer conn.Close(ctx) //nolint:errcheck // closing also gives up the lock
	if _, err := conn.Exec(ctx, `SELECT pg_advisory_lock(hashtext($1))`, name); err != nil {
		return "", err
	}
	var there bool
	err = conn.QueryRow(ctx, `SELECT EXISTS (SELECT FROM pg_database WHERE datname = $1)`, name).Scan(&there)
	if err != nil || there {
		return name, err
	}
	// Made under another name first: a crash half-way must not leave a template
	// that looks finished.
	draft := name + "_draft"
	if _, err := conn.Exec(ctx, "DROP DATABASE IF EXISTS "+draft); err != nil {
		return "", err
	}
	if _, err := conn.Exec(ctx, "CREATE DATABASE "+draft); err != nil {
		return "", err
	}
	if err := migrate.Up(ctx, withDatabase(server, draft), fsys); err != nil {
		return "", err
	}
	_, err = conn.Exec(ctx, "ALTER DATABASE "+draft+" RENAME TO "+name)
	return name, err
}

func templateName(fsys fs.FS) (string, error) {
	hash := sha256.New()
	err := fs.WalkDir(fsys, "migrations", func(path string, entry fs.DirEntry, err error) error {
		if err != nil || entry.IsDir() {
			return err
		}
		text, err := fs.ReadFile(fsys, path)
		fmt.Fprintf(hash, "%s %d\n%s", path, len(text), text)
		return err
	})
	return "tmpl_" + hex.EncodeToString(hash.Sum(nil))[:24], err
}

// admin runs one statement as superuser. A template that somebody else clones or
// inspects at this moment is busy; that passes.
func admin(ctx context.Context, server, statement string) error {
	for deadline := time.Now().Add(20 * time.Second); ; {
		conn, err := pgx.Connect(ctx, server)
		if err != nil {
			return err
		}
		_, err = conn.Exec(ctx, statement)
		_ = conn.Close(ctx)
		pgErr, ok := errors.AsType[*pgconn.PgError](err)
		if !ok || pgErr.Code != "55006" || time.Now().After(deadline) {
			return err
		}
		time.Sleep(10 * time.Millisecond)
	}
}

func withDatabase(server, name string) string {
	u, err := url.Parse(server)
	if err != nil {
		return server
	}
	u.Path = "/" + name
	return u.String()
}

// Rabbit returns the URL of a virtual host of this test's own: exchanges and
// queues keep their names and still do not meet those of another test.
func Rabbit(t testing.TB) string {
	t.Helper()
	env, err := forRabbit()
	if err != nil {
		t.Fatal(err)
	}
	if env.RabbitAPI == "" {
		t.Fatal("set FAILWELL_RABBIT_API (http://user:password@host:15672) beside FAILWELL_AMQP_URL: each test gets a virtual host of its own")
	}
	name := "test-" + uuid.NewString()
	address, err := env.VirtualHost(context.Background(), name)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		if err := env.insist(context.Background(), http.MethodDelete, "/api/vhosts/"+name, ""); err != nil {
			t.Error(err)
		}
	})
	return address
}
