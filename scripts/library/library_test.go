// Package library_test holds the patterns to what a program outside this module can do
// with them: bookings is a module of its own.
package library_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"log/slog"
	"net"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/pattern/changerecord"
	"example.com/failwell/shared/pattern/idempotency"
	"example.com/failwell/shared/pattern/outbox"
	"example.com/failwell/shared/platform/problem"
	"example.com/failwell/shared/testenv"
)

func TestMain(m *testing.M) { testenv.Main(m) }

const timeout = 60 * time.Second // for what should take milliseconds, on a machine that is busy

// program is bookings, running.
type program struct {
	t   *testing.T
	url string
	db  *pgxpool.Pool
}

func start(t *testing.T) *program {
	t.Helper()
	database := testenv.Postgres(t, nil)
	db, err := pgxpool.New(t.Context(), database)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(db.Close)
	_, err = db.Exec(t.Context(), idempotency.Schema+changerecord.Schema+outbox.Schema+`
		CREATE TABLE bookings (course jsonb NOT NULL);
		CREATE TABLE counted (bookings int NOT NULL);
		INSERT INTO counted VALUES (0);`)
	if err != nil {
		t.Fatal(err)
	}

	binary := filepath.Join(t.TempDir(), "bookings")
	run(t, "go", "build", "-o", binary, ".")
	port, release, err := testenv.HoldPort()
	if err != nil {
		t.Fatal(err)
	}
	release()
	address := fmt.Sprintf("127.0.0.1:%d", port)
	process := exec.CommandContext(context.WithoutCancel(t.Context()), binary)
	process.Env = append(os.Environ(), "DATABASE_URL="+database, "HTTP_ADDR="+address)
	process.Stderr = os.Stderr
	if err := process.Start(); err != nil {
		t.Fatal(err)
	}
	t.Cleanup(func() {
		_ = process.Process.Kill() // it may have ended
		_ = process.Wait()         // with the kill
	})
	p := &program{t: t, url: "http://" + address, db: db}
	p.await("it listens", func() bool {
		conn, err := net.DialTimeout("tcp", address, time.Second)
		return err == nil && conn.Close() == nil
	})
	return p
}

// run runs a command in the module and returns what it prints.
func run(t *testing.T, name string, args ...string) string {
	t.Helper()
	command := exec.CommandContext(t.Context(), name, args...) //nolint:gosec // of this test
	command.Dir = "bookings"
	var said strings.Builder
	command.Stderr = &said
	out, err := command.Output()
	if err != nil {
		t.Fatalf("%s %s: %v\n%s", name, strings.Join(args, " "), err, said.String())
	}
	return string(out)
}

func (p *program) await(what string, holds func() bool) {
	p.t.Helper()
	for deadline := time.Now().Add(timeout); !holds(); time.Sleep(10 * time.Millisecond) {
		if time.Now().After(deadline) {
			p.t.Fatalf("not in time: %s", what)
		}
	}
}

func (p *program) number(query string) (n int) {
	p.t.Helper()
	if err := p.db.QueryRow(p.t.Context(), query).Scan(&n); err != nil {
		p.t.Fatal(err)
	}
	return n
}

type answer struct {
	status   int
	body     string
	replayed bool
}

// post sends a request; header are names and values in turn.
func (p *program) post(ctx context.Context, path, body string, header ...string) (answer, error) {
	request, err := http.NewRequestWithContext(ctx, http.MethodPost, p.url+path, strings.NewReader(body))
	if err != nil {
		return answer{}, err
	}
	for i := 0; i < len(header); i += 2 {
		request.Header.Set(header[i], header[i+1])
	}
	response, err := http.DefaultClient.Do(request)
	if err != nil {
		return answer{}, err
	}
	defer response.Body.Close() //nolint:errcheck // a test
	text, err := io.ReadAll(response.Body)
	return answer{response.StatusCode, string(text), response.Header.Get(idempotency.HeaderReplayed) != ""}, err
}

func (p *program) book(key, body string) answer {
	a, err := p.post(p.t.Context(), "/bookings", body, idempotency.HeaderKey, key)
	if err != nil {
		p.t.Error(err)
	}
	return a
}

// Publish is a broker that delivers each message twice.
func (p *program) Publish(ctx context.Context, messages []outbox.Envelope) ([]outbox.Outcome, error) {
	outcomes := make([]outbox.Outcome, len(messages))
	for i, m := range messages {
		for range 2 {
			a, err := p.post(ctx, "/messages", string(m.Body), "ce-source", "/bookings", "ce-id", m.ID.String())
			if err != nil || a.status != http.StatusOK {
				return outcomes, errors.Join(err, errors.New(a.body))
			}
		}
		outcomes[i] = outbox.Confirmed
	}
	return outcomes, nil
}

func (p *program) Ready() error { return nil }

func TestBookings_EachOnceHoweverOftenItIsSentAndDelivered(t *testing.T) {
	t.Parallel()
	p := start(t)
	const yoga, boxing = `{"course":"yoga"}`, `{"course":"boxing"}`
	if a, want := p.book("k1", yoga), (answer{http.StatusCreated, yoga, false}); a != want {
		t.Errorf("the first: %+v, want %+v", a, want)
	}
	if a, want := p.book("k1", ` { "course" : "yoga" } `), (answer{http.StatusCreated, yoga, true}); a != want {
		t.Errorf("the same again: %+v, want %+v", a, want)
	}
	var refusal problem.Problem
	a := p.book("k1", boxing)
	if err := json.Unmarshal([]byte(a.body), &refusal); err != nil || a.status != http.StatusUnprocessableEntity || refusal.Type != idempotency.ErrKeyReused.Type {
		t.Errorf("other content: %+v, %v, want a refusal", a, err)
	}
	if a := p.book("", yoga); a.status != http.StatusBadRequest {
		t.Errorf("without a key: %+v", a)
	}

	// No booking can be written: the first of these stops behind its record of the key,
	// and the others meet it there.
	gate, err := p.db.Begin(t.Context())
	if err == nil {
		_, err = gate.Exec(t.Context(), `LOCK TABLE bookings`)
	}
	if err != nil {
		t.Fatal(err)
	}
	var first, repeated int
	var mu sync.Mutex
	var all sync.WaitGroup
	for range 16 {
		all.Go(func() {
			a := p.book("k2", boxing)
			mu.Lock()
			defer mu.Unlock()
			switch a {
			case answer{http.StatusCreated, boxing, false}:
				first++
			case answer{http.StatusCreated, boxing, true}:
				repeated++
			default:
				t.Errorf("one of many at once: %+v", a)
			}
		})
	}
	p.await("some wait for the first", func() bool {
		return p.number(`SELECT count(*) FROM pg_stat_activity WHERE datname = current_database() AND wait_event_type = 'Lock'`) > 1
	})
	if err := gate.Commit(t.Context()); err != nil {
		t.Fatal(err)
	}
	all.Wait()
	if first != 1 || repeated != 15 {
		t.Errorf("of 16 at once %d were first and %d repeated", first, repeated)
	}
	if bookings, messages := p.number(`SELECT count(*) FROM bookings`), p.number(`SELECT count(*) FROM outbox`); bookings != 2 || messages != 2 {
		t.Errorf("%d bookings, %d messages, want 2 of each", bookings, messages)
	}

	relay := outbox.NewRelay(outbox.New("/bookings", "bookings-1"), outbox.Config{
		DB: p.db, Publisher: p, Logger: slog.New(slog.DiscardHandler), Poll: 10 * time.Millisecond,
	})
	ctx, stop := context.WithCancel(t.Context())
	var running sync.WaitGroup
	running.Go(func() { relay.Run(ctx) })
	p.await("every message is published", func() bool { return p.number(`SELECT count(*) FROM outbox`) == 0 })
	stop()
	running.Wait()
	if counted := p.number(`SELECT bookings FROM counted`); counted != 2 {
		t.Errorf("4 deliveries of 2 messages were counted as %d bookings", counted)
	}
}

// What the module brings along is small: no web framework, no client of a broker, no
// library for migrations.
func TestBookings_NeedsNoFramework(t *testing.T) {
	t.Parallel()
	for _, path := range strings.Fields(run(t, "go", "list", "-deps", ".")) {
		for _, unwanted := range []string{"labstack", "amqp", "goose", "otel/sdk", "failwell/shared/platform/web", "failwell/shared/platform/rabbit"} {
			if strings.Contains(path, unwanted) {
				t.Errorf("it needs %s", path)
			}
		}
	}
}
