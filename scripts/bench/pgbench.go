package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"strconv"
	"time"
)

// pgbench runs a script of one statement, prepared, and returns transactions a
// second: what this machine's PostgreSQL can do when nothing stands before it.
func (b *bench) pgbench(ctx context.Context, database, script string, clients int) (float64, error) {
	binary, err := findPgbench()
	if err != nil {
		return 0, err
	}
	file := filepath.Join(b.System.Dir, "pgbench.sql")
	if err := os.WriteFile(file, []byte(script), 0o600); err != nil {
		return 0, err
	}
	seconds := max(1, int(b.round/time.Second))
	out, err := exec.CommandContext(ctx, binary, "-n", "-M", "prepared", "-f", file,
		"-c", strconv.Itoa(clients), "-j", strconv.Itoa(min(clients, 2)), "-T", strconv.Itoa(seconds),
		b.System.DatabaseURL(database)).CombinedOutput()
	if err != nil {
		return 0, fmt.Errorf("pgbench: %w\n%s", err, out)
	}
	found := tps.FindSubmatch(out)
	if found == nil {
		return 0, fmt.Errorf("pgbench says no rate:\n%s", out)
	}
	return strconv.ParseFloat(string(found[1]), 64)
}

var tps = regexp.MustCompile(`tps = ([0-9.]+)`)

// findPgbench looks where Debian puts it, too.
func findPgbench() (string, error) {
	if path, err := exec.LookPath("pgbench"); err == nil {
		return path, nil
	}
	if found, _ := filepath.Glob("/usr/lib/postgresql/*/bin/pgbench"); len(found) > 0 {
		return found[len(found)-1], nil
	}
	return "", fmt.Errorf("pgbench is not here: install PostgreSQL (`make deps` does)")
}
