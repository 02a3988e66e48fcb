package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"time"

	"example.com/failwell/scripts/lab/experiments"
	"example.com/failwell/scripts/lab/world"
	"example.com/failwell/scripts/live"
	"example.com/failwell/scripts/stack"
)

// recorder keeps of each experiment what happened between the processes, as the live page
// observes it, for a page without a server.
type recorder struct {
	dir string

	mu    sync.Mutex
	pages map[*experiments.World]*live.Page
	runs  map[string]map[string]recording // by experiment; with and without
}

// recording is one of the two versions of an experiment.
type recording struct {
	Begun  time.Time          `json:"begun"`
	Says   string             `json:"says"`
	Lines  []experiments.Line `json:"lines"`
	Events []live.Event       `json:"events"`
}

func newRecorder(dir string) *recorder {
	return &recorder{dir: dir, pages: map[*experiments.World]*live.Page{}, runs: map[string]map[string]recording{}}
}

// system starts one that is watched, on servers of its own.
func (r *recorder) system(ctx context.Context, opts stack.Options, seed uint64) (*experiments.World, error) {
	page := live.New()
	opts.Tenant, opts.IgnoreGiven, opts.LogicalDecoding, opts.Lives = "", true, true, page.Life
	w, err := world.Start(ctx, opts)
	if err != nil {
		return nil, err
	}
	if err := page.Observe(ctx, live.System{Env: w.System.Env(), RabbitAPI: w.System.Servers.RabbitAPI, Signal: w.System.Signal}); err != nil {
		w.Close()
		return nil, err
	}
	w.Shop.HTTP.Transport = page.Hear(w.Shop.HTTP.Transport)
	out := &experiments.World{World: w, Seed: seed}
	r.mu.Lock()
	defer r.mu.Unlock()
	r.pages[out] = page
	return out, nil
}

// perform runs an experiment, and keeps what was observed meanwhile.
func (r *recorder) perform(ctx context.Context, e experiments.Experiment, w *experiments.World, without bool) experiments.Half {
	r.mu.Lock()
	page := r.pages[w]
	r.mu.Unlock()
	mark := page.Mark()
	half := e.Perform(ctx, w, without)
	events := page.Since(mark)
	which := "with"
	if without {
		which = "without"
	}
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.runs[e.ID] == nil {
		r.runs[e.ID] = map[string]recording{}
	}
	r.runs[e.ID][which] = recording{Begun: half.Begun, Says: half.Verdict.Says, Lines: half.Lines, Events: events}
	return half
}

// write writes the recording of an experiment as a script: a page that was opened from the
// disk may read no other file.
func (r *recorder) write(id string) error {
	r.mu.Lock()
	defer r.mu.Unlock()
	text, err := json.Marshal(r.runs[id])
	if err != nil {
		return err
	}
	return os.WriteFile(filepath.Join(r.dir, id+".js"), fmt.Appendf(nil, "recorded(%q, %s)\n", id, text), 0o644) //nolint:gosec // documentation
}
