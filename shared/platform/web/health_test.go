package web_test

import (
	"context"
	"errors"
	"net/http"
	"strings"
	"testing"

	"github.com/labstack/echo/v4"

	"example.com/failwell/shared/platform/web"
)

func TestHealth_OutageMakesAServiceUnreadyButNotDead(t *testing.T) {
	t.Parallel()
	s := serve(t, func(e *echo.Echo) {
		web.Health(e,
			web.Check{Name: "database", Probe: func(context.Context) error { return nil }},
			web.Check{Name: "broker", Probe: func(context.Context) error { return errors.New("not connected") }})
	})
	if a := s.send(t, http.MethodGet, "/healthz", ""); a.status != http.StatusOK {
		t.Errorf("healthz %d: the process would be restarted for the broker's outage", a.status)
	}
	a := s.send(t, http.MethodGet, "/readyz", "")
	want := `{"status":"not ready","checks":{"broker":"not connected","database":"ok"}}`
	if a.status != http.StatusServiceUnavailable || strings.TrimSpace(a.body) != want {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

func TestHealth_HangingCheckEndsAndSpoilsNoOther(t *testing.T) {
	t.Parallel()
	s := serve(t, func(e *echo.Echo) {
		web.Health(e,
			web.Check{Name: "database", Probe: func(ctx context.Context) error { <-ctx.Done(); return ctx.Err() }},
			web.Check{Name: "broker", Probe: func(ctx context.Context) error { return ctx.Err() }})
	})
	a := s.send(t, http.MethodGet, "/readyz", "")
	want := `{"status":"not ready","checks":{"broker":"ok","database":"context deadline exceeded"}}`
	if a.status != http.StatusServiceUnavailable || strings.TrimSpace(a.body) != want {
		t.Errorf("got %d %s", a.status, a.body)
	}
}

func TestHealth_ReadyWhenEveryCheckPasses(t *testing.T) {
	t.Parallel()
	s := serve(t, func(e *echo.Echo) {
		web.Health(e, web.Check{Name: "database", Probe: func(context.Context) error { return nil }})
	})
	if a := s.send(t, http.MethodGet, "/readyz", ""); a.status != http.StatusOK || strings.TrimSpace(a.body) != `{"status":"ready","checks":{"database":"ok"}}` {
		t.Errorf("got %d %s", a.status, a.body)
	}
}
