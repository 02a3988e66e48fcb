package postgres_test

import (
	"context"
	"log/slog"
	"net/url"
	"strings"
	"testing"
	"time"

	"example.com/failwell/shared/platform/postgres"
)

// What waiting cannot fix is reported at once; a server that is not there yet
// is waited for.
func TestOpen_WaitsForAServerButNotForAMissingDatabase(t *testing.T) {
	t.Parallel()
	_, dbURL := database(t)
	u, err := url.Parse(dbURL)
	if err != nil {
		t.Fatal(err)
	}
	u.Path = "/no_such_database"
	if _, err := postgres.Open(t.Context(), postgres.Options{URL: u.String(), Logger: slog.New(slog.DiscardHandler)}); err == nil || !strings.Contains(err.Error(), "3D000") {
		t.Errorf("no such database: %v", err)
	}
	u.Host = "127.0.0.1:1"
	ctx, cancel := context.WithTimeout(t.Context(), 300*time.Millisecond)
	defer cancel()
	begun := time.Now()
	if _, err := postgres.Open(ctx, postgres.Options{URL: u.String(), Logger: slog.New(slog.DiscardHandler)}); err == nil || time.Since(begun) < 250*time.Millisecond {
		t.Errorf("no server: %v after %v", err, time.Since(begun))
	}
}

// Without these the server keeps the session, and the locks, of a client that lost
// its power: for minutes, or for hours.
func TestOpen_ServerNoticesAClientThatVanished(t *testing.T) {
	t.Parallel()
	db, _ := database(t)
	for setting, want := range map[string]string{
		"tcp_keepalives_idle": "10", "tcp_keepalives_interval": "5", "tcp_keepalives_count": "3", "tcp_user_timeout": "15000",
	} {
		var got string // of the connection itself, as the server's kernel has it
		if err := db.QueryRow(t.Context(), `SHOW `+setting).Scan(&got); err != nil || got != want {
			t.Errorf("%s: %q, want %s (%v)", setting, got, want, err)
		}
	}
}
