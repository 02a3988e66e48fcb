package web_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/jackc/pgx/v5/pgxpool"

	"example.com/failwell/shared/platform/web"
	"example.com/failwell/shared/testenv"
)

func passes(context.Context) error { return nil }

func TestHealth_OutageMakesAServiceUnreadyButNotDead(t *testing.T) {
	t.Parallel()
	s := serve(t, none,
		web.Check{Name: "database", Probe: func(context.Context) error { return errors.New("dial orders@db.internal:5432") }},
		web.Check{Name: "broker", Probe: passes})
	if a := s.send(t, http.MethodGet, "/healthz", ""); a.status != http.StatusOK {
		t.Errorf("healthz %d: the process would be restarted for the database's outage", a.status)
	}
	a := s.send(t, http.MethodGet, "/readyz", "")
	want := `{"status":"not ready","checks":{"broker":"ok","database":"failing"}}`
	if a.status != http.StatusServiceUnavailable || strings.TrimSpace(a.body) != want {
		t.Errorf("got %d %s, want %s, which names no host and no user", a.status, a.body, want)
	}
	if !strings.Contains(s.log.String(), "db.internal") {
		t.Error("the log does not say why")
	}
}

func TestHealth_OutageOfWhatWorksInTheBackgroundIsToldAndTheServiceReady(t *testing.T) {
	t.Parallel()
	s := serve(t, none, web.Check{Name: "broker", Probe: func(context.Context) error { return errors.New("away") }, Background: true})
	a := s.send(t, http.MethodGet, "/readyz", "")
	if want := `{"status":"ready","checks":{"broker":"failing"}}`; a.status != http.StatusOK || strings.TrimSpace(a.body) != want {
		t.Errorf("got %d %s, want %s", a.status, a.body, want)
	}
}

func TestHealth_HangingCheckEndsAndSpoilsNoOther(t *testing.T) {
	t.Parallel()
	s := serve(t, none,
		web.Check{Name: "database", Probe: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
		web.Check{Name: "broker", Probe: func(ctx context.Context) error { return ctx.Err() }})
	a := s.send(t, http.MethodGet, "/readyz", "")
	want := `{"status":"not ready","checks":{"broker":"ok","database":"failing"}}`
	if a.status != http.StatusServiceUnavailable || strings.TrimSpace(a.body) != want {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

func TestHealth_ReadyWhenEveryCheckPasses(t *testing.T) {
	t.Parallel()
	s := serve(t, none, web.Check{Name: "database", Probe: passes})
	if a := s.send(t, http.MethodGet, "/readyz", ""); a.status != http.StatusOK || strings.TrimSpace(a.body) != `{"status":"ready","checks":{"database":"ok"}}` {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

// A server that was demoted, or that its administrator made read-only, answers a ping.
func TestHealth_ReadOnlyDatabaseIsNotReady(t *testing.T) {
	t.Parallel()
	db := open(t, testenv.Postgres(t, merchantsTable))
	check := web.Database(db)
	if err := check.Probe(t.Context()); err != nil {
		t.Fatal(err)
	}
	config := db.Config()
	config.ConnConfig.RuntimeParams["default_transaction_read_only"] = "on"
	readOnly, err := pgxpool.NewWithConfig(t.Context(), config)
	if err != nil {
		t.Fatal(err)
	}
	t.Cleanup(readOnly.Close)
	if err := web.Database(readOnly).Probe(t.Context()); err == nil || !strings.Contains(err.Error(), "read-only") {
		t.Errorf("it cannot write, and the check says: %v", err)
	}
}

func TestHealth_AFailingCheckIsAMetric(t *testing.T) {
	t.Parallel()
	s := serve(t, none,
		web.Check{Name: "database", Probe: func(context.Context) error { return errors.New("away") }},
		web.Check{Name: "broker", Probe: passes})
	a := s.send(t, http.MethodGet, "/metrics", "")
	for _, want := range []string{`failwell_dependency_up{dependency="database"} 0`, `failwell_dependency_up{dependency="broker"} 1`} {
		if !strings.Contains(a.body, want) {
			t.Errorf("no %s in\n%s", want, a.body)
		}
	}
}
