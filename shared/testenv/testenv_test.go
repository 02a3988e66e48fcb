package testenv_test

import (
	"context"
	"errors"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"testing/fstest"
	"time"

	"github.com/jackc/pgx/v5"
	amqp "github.com/rabbitmq/amqp091-go"

	"example.com/failwell/shared/testenv"
)

func TestMain(m *testing.M) {
	// In this mode the test binary is the process that dies without a good-bye.
	if os.Getenv("FAILWELL_TEST_DIE") != "" {
		dieWithServers()
	}
	testenv.Main(m)
}

func dieWithServers() {
	env, err := testenv.Start(context.Background(), testenv.Options{IgnoreGiven: true, WithoutRabbit: true})
	if err != nil {
		panic(err)
	}
	_, _ = os.Stdout.WriteString(env.Source + " " + env.PostgresURL + "\n")
	process, _ := os.FindProcess(os.Getpid())
	_ = process.Kill()
	select {}
}

func TestServers_DoNotOutliveAKilledOwner(t *testing.T) {
	t.Parallel()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "FAILWELL_TEST_DIE=1")
	out, _ := child.Output() // it is killed, so there is always an error
	source, url, ok := strings.Cut(strings.TrimSpace(string(out)), " ")
	if !ok || strings.Contains(source, "docker") {
		t.Skipf("servers come from %q; only child processes can be tied to their owner", source)
	}
	url = strings.TrimPrefix(url, "binaries ")
	for deadline := time.Now().Add(30 * time.Second); ; time.Sleep(20 * time.Millisecond) {
		conn, err := pgx.Connect(context.Background(), url)
		if err != nil {
			return // gone
		}
		_ = conn.Close(context.Background())
		if time.Now().After(deadline) {
			t.Fatal("PostgreSQL still answers ten seconds after its owner was killed")
		}
	}
}

func TestPostgres_EachTestHasItsOwnDatabase(t *testing.T) {
	t.Parallel()
	migrations := fstest.MapFS{"migrations/00001_x.sql": {Data: []byte("-- +goose Up\nCREATE TABLE x (n int);\n")}}
	for range 3 {
		conn, err := pgx.Connect(t.Context(), testenv.Postgres(t, migrations))
		if err != nil {
			t.Fatal(err)
		}
		var n int
		err = conn.QueryRow(t.Context(), `WITH i AS (INSERT INTO x VALUES (1)) SELECT count(*) FROM x`).Scan(&n)
		if err != nil || n != 0 {
			t.Fatalf("a fresh database holds %d rows, error %v", n, err)
		}
		_ = conn.Close(t.Context())
	}
}

func TestRabbit_EachTestHasItsOwnVirtualHost(t *testing.T) {
	t.Parallel()
	for range 2 {
		conn, err := amqp.Dial(testenv.Rabbit(t))
		if err != nil {
			t.Fatal(err)
		}
		ch, err := conn.Channel()
		if err != nil {
			t.Fatal(err)
		}
		if _, err := ch.QueueDeclarePassive("q", true, false, false, false, nil); err == nil {
			t.Fatal("a fresh virtual host has a queue already")
		}
		if ch, err = conn.Channel(); err != nil {
			t.Fatal(err)
		}
		if _, err := ch.QueueDeclare("q", true, false, false, false, nil); err != nil {
			t.Fatal(err)
		}
		_ = conn.Close()
	}
}

// A server that is paused answers no one, also on a connection that it has; it goes on with
// it. Close ends one that is paused.
func TestPausePostgres_AnswersWhenItGoesOn(t *testing.T) {
	t.Parallel()
	env, err := testenv.Start(t.Context(), testenv.Options{IgnoreGiven: true, WithoutRabbit: true})
	if err != nil {
		t.Fatal(err)
	}
	defer env.Close()
	conn, err := pgx.Connect(t.Context(), env.PostgresURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(t.Context()) //nolint:errcheck // a test's
	if err := env.PausePostgres(true); err != nil {
		t.Fatal(err)
	}
	answered := make(chan error, 1)
	go func() {
		_, err := conn.Exec(t.Context(), `SELECT 1`)
		answered <- err
	}()
	select {
	case err := <-answered:
		t.Errorf("it answers while it is paused: %v", err)
	case <-time.After(300 * time.Millisecond):
	}
	if err := env.PausePostgres(false); err != nil {
		t.Fatal(err)
	}
	if err := <-answered; err != nil {
		t.Error(err)
	}
	if err := env.PausePostgres(true); err != nil {
		t.Fatal(err)
	}
}

func TestKillPostgres_ComesBackAtItsAddressWithItsData(t *testing.T) {
	t.Parallel()
	ctx := t.Context()
	env, err := testenv.Start(ctx, testenv.Options{IgnoreGiven: true, WithoutRabbit: true})
	if err != nil {
		t.Fatal(err)
	}
	defer env.Close()
	exec := func(statement string) {
		t.Helper()
		conn, err := pgx.Connect(ctx, env.PostgresURL)
		if err == nil {
			_, err = conn.Exec(ctx, statement)
			_ = conn.Close(ctx)
		}
		if err != nil {
			t.Fatal(err)
		}
	}
	exec("CREATE TABLE kept (n int)")
	for range 3 {
		if err := env.KillPostgres(ctx); err != nil {
			t.Fatal(err)
		}
		if err := env.StartPostgres(ctx); err != nil {
			t.Fatal(err)
		}
		exec("INSERT INTO kept VALUES (1)")
	}
	conn, err := pgx.Connect(ctx, env.PostgresURL)
	if err != nil {
		t.Fatal(err)
	}
	var data string
	err = conn.QueryRow(ctx, `SHOW data_directory`).Scan(&data)
	_ = conn.Close(ctx)
	env.Close()
	if err != nil || env.Source != "local binaries" {
		return // in a container: removed with it
	}
	dir := filepath.Dir(filepath.Dir(data)) // with all that this environment has stored
	if _, err := os.Stat(dir); !strings.HasPrefix(filepath.Base(dir), "failwell-env-") || !errors.Is(err, fs.ErrNotExist) {
		t.Errorf("after Close %s is left: %v", dir, err)
	}
}

// FAILWELL_REQUIRE_DOCKER makes a missing engine a failure: set where one was started for this test.
func TestContainers_ServeWhereAnEngineDoes(t *testing.T) {
	t.Parallel()
	env, err := testenv.Start(t.Context(), testenv.Options{IgnoreGiven: true})
	if err != nil {
		t.Fatal(err)
	}
	defer env.Close()
	if env.Source != "docker" {
		if os.Getenv("FAILWELL_REQUIRE_DOCKER") != "" {
			t.Fatalf("an engine is required, but the servers come from %s", env.Source)
		}
		t.Skipf("no Docker engine with the images; the servers come from %s", env.Source)
	}
	for what, server := range map[string]struct{ kill, stop, start func(context.Context) error }{
		"PostgreSQL": {env.KillPostgres, env.StopPostgres, env.StartPostgres},
		"RabbitMQ":   {env.KillRabbit, env.StopRabbit, env.StartRabbit},
	} {
		for _, end := range []func(context.Context) error{server.stop, server.kill} {
			begun := time.Now()
			if err := end(t.Context()); err != nil {
				t.Fatal(what, err)
			}
			// Both need seconds at most, when they are told by a signal that they know.
			if took := time.Since(begun); took > 20*time.Second {
				t.Errorf("%s took %s to end", what, took)
			}
			if err := server.start(t.Context()); err != nil {
				t.Fatal(what, err)
			}
		}
	}
	conn, err := pgx.Connect(t.Context(), env.PostgresURL)
	if err != nil {
		t.Fatal(err)
	}
	_ = conn.Close(t.Context())
}

// The engine does not know that an owner was killed. The next process that starts sweeps up.
func TestContainers_OfAKilledOwnerAreRemoved(t *testing.T) {
	t.Parallel()
	child := exec.Command(os.Args[0])
	child.Env = append(os.Environ(), "FAILWELL_TEST_DIE=1")
	out, _ := child.Output() // it is killed, so there is always an error
	source, url, _ := strings.Cut(strings.TrimSpace(string(out)), " ")
	if source != "docker" {
		t.Skipf("servers come from %q", source)
	}
	conn, err := pgx.Connect(t.Context(), url)
	if err != nil {
		t.Fatalf("it should have survived its owner: %v", err)
	}
	_ = conn.Close(t.Context())
	env, err := testenv.Start(t.Context(), testenv.Options{IgnoreGiven: true, WithoutRabbit: true})
	if err != nil {
		t.Fatal(err)
	}
	defer env.Close()
	if conn, err := pgx.Connect(t.Context(), url); err == nil {
		_ = conn.Close(t.Context())
		t.Error("the container of the killed owner still runs")
	}
}
