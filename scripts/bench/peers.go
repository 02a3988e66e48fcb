package main

import (
	"bytes"
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
)

// peerSandbox is the process of the outside world that peers ask; see withPeerSandbox.
const peerSandbox = "sandbox-2"

// peer runs what a user would pick instead. Peers live in a module of their own,
// so that nothing of theirs is in ours.
func (b *bench) peer(ctx context.Context, database, name string, n int) (sample, error) {
	binary := filepath.Join(b.System.Dir, "peers")
	if _, err := os.Stat(binary); err != nil {
		build := exec.CommandContext(ctx, "go", "build", "-o", binary, ".")
		build.Dir = filepath.Join(b.System.Root, "scripts", "bench", "peers")
		if out, err := build.CombinedOutput(); err != nil {
			return sample{}, fmt.Errorf("build the peers: %w\n%s", err, out)
		}
	}
	run := exec.CommandContext(ctx, binary, name, strconv.Itoa(n))
	run.Env = append(os.Environ(), "DATABASE_URL="+database, "AMQP_URL="+b.System.Servers.AMQPURL,
		"SANDBOX_URL="+b.System.URL[peerSandbox], "PROCESSOR_KEY="+b.System.Env()["PROCESSOR_KEY"])
	var complaints bytes.Buffer
	run.Stderr = &complaints
	out, err := run.Output()
	if err != nil {
		return sample{}, fmt.Errorf("peer %s: %w\n%s", name, err, complaints.String())
	}
	var said struct {
		PerSecond float64 `json:"per_second"`
	}
	err = json.Unmarshal(out, &said)
	return sample{perSecond: said.PerSecond}, err
}
