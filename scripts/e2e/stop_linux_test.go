package e2e

import (
	"context"
	"net/http"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/jackc/pgx/v5"

	"example.com/failwell/scripts/stack"
)

// postgresProcesses are the postmaster of this test's own server and its backends, the
// postmaster first: once it is paused, no backend is added.
func postgresProcesses(ctx context.Context, t *testing.T) []int {
	t.Helper()
	conn, err := pgx.Connect(ctx, system.Servers.PostgresURL)
	if err != nil {
		t.Fatal(err)
	}
	defer conn.Close(ctx) //nolint:errcheck // a test's
	var file string
	if err := conn.QueryRow(ctx, `SELECT pg_read_file('postmaster.pid')`).Scan(&file); err != nil {
		t.Fatal(err)
	}
	pid, _, _ := strings.Cut(file, "\n")
	if name, _ := os.ReadFile(filepath.Join("/proc", pid, "comm")); strings.TrimSpace(string(name)) != "postgres" {
		t.Skipf("PostgreSQL does not run beside us: process %s is %q", pid, name)
	}
	postmaster, err := strconv.Atoi(pid)
	if err != nil {
		t.Fatal(err)
	}
	processes := []int{postmaster}
	stats, err := filepath.Glob("/proc/[0-9]*/stat")
	if err != nil {
		t.Fatal(err)
	}
	for _, stat := range stats {
		line, _ := os.ReadFile(stat) // it may have ended
		_, rest, _ := strings.Cut(string(line), ") ")
		if fields := strings.Fields(rest); len(fields) > 1 && fields[1] == pid {
			child, _ := strconv.Atoi(filepath.Base(filepath.Dir(stat)))
			processes = append(processes, child)
		}
	}
	return processes
}

// A PostgreSQL that is there and does not answer holds up whatever waits for it: a request, the
// background jobs, closing the pool. An orchestrator kills after ten seconds.
func TestShutdown_EndsInTimeWhilePostgresHangs(t *testing.T) {
	ctx := limit(t)
	sold(ctx, t, mug) // then all have connections in use
	before := map[string]int{}
	for _, service := range stack.Services {
		before[service] = starts(service)
	}
	paused := postgresProcesses(ctx, t)
	all := func(sig syscall.Signal) {
		for _, pid := range paused {
			_ = syscall.Kill(pid, sig) // a backend may have ended
		}
	}
	all(syscall.SIGSTOP)
	resume := func() { all(syscall.SIGCONT) }
	defer resume()

	hanging, giveUp := context.WithCancel(ctx)
	defer giveUp()
	go func() { _, _ = acme.Get(hanging, system.URL[stack.Orders]+"/v1/orders") }() // a request that waits for it
	time.Sleep(200 * time.Millisecond)                                              // for that request to be on its way; without it the test is easier, not wrong
	begun := time.Now()
	for _, service := range stack.Services {
		system.Signal(service, syscall.SIGTERM)
	}
	for _, service := range stack.Services {
		eventually(ctx, t, service+" has ended", func() bool { return starts(service) > before[service] })
		took := time.Since(begun)
		t.Logf("%s ended %s after the signal", service, took.Round(10*time.Millisecond))
		if took > 15*time.Second { // it ends itself after nine; the rest is a busy machine's
			t.Errorf("%s took %s", service, took)
		}
	}
	resume()
	for _, service := range stack.Services {
		eventually(ctx, t, service+" is ready again", func() bool { status, _ := readiness(ctx, service); return status == http.StatusOK })
	}
	allHolds(ctx, t)
}
