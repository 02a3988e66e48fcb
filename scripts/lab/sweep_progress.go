package main

import (
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"sync"
	"time"

	"example.com/failwell/scripts/lab/sweep"
	"example.com/failwell/scripts/stack"
)

// sweeping is a sweep on its way: what is to be done, what came of it, and the
// file that keeps it.
type sweeping struct {
	all    []sweep.Combination
	file   string // empty: kept nowhere
	source string // the state of the source that is swept
	begun  time.Time

	mu    sync.Mutex
	done  map[sweep.Combination]swept
	fresh int // done by this process
}

// kept is the file of --resume.
type kept struct {
	Source string  `json:"source"` // a hash; what another source held proves nothing
	Held   []swept `json:"held"`
}

// newSweeping begins a sweep, or goes on with the one that is kept in file. What
// did not hold is done again.
func newSweeping(all []sweep.Combination, file string) (*sweeping, error) {
	s := &sweeping{all: all, file: file, begun: time.Now(), done: map[sweep.Combination]swept{}}
	if file == "" {
		return s, nil
	}
	var err error
	if s.source, err = hashOfSource(); err != nil {
		return nil, err
	}
	text, err := os.ReadFile(file)
	if errors.Is(err, os.ErrNotExist) {
		return s, nil
	}
	if err != nil {
		return nil, err
	}
	var before kept
	if err := json.Unmarshal(text, &before); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	if before.Source != s.source {
		fmt.Printf("%s was kept for another source: beginning anew\n", file)
		return s, nil
	}
	for _, h := range before.Held {
		s.done[h.Combination] = h
	}
	fmt.Printf("going on: %d of %d have held\n", len(all)-len(s.todo()), len(all))
	return s, nil
}

func (s *sweeping) todo() []sweep.Combination {
	var todo []sweep.Combination
	for _, c := range s.all {
		if _, known := s.done[c]; !known {
			todo = append(todo, c)
		}
	}
	return todo
}

func (s *sweeping) failed() []swept {
	var failed []swept
	for _, c := range s.all {
		if s.done[c].Error != "" {
			failed = append(failed, s.done[c])
		}
	}
	return failed
}

// tell takes note of an outcome, shows it, and keeps it.
func (s *sweeping) tell(outcome swept) error {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.done[outcome.Combination] = outcome
	s.fresh++
	mark := "held"
	if outcome.Error != "" {
		mark = "VIOLATED"
	}
	left := len(s.todo())
	remaining := time.Since(s.begun) / time.Duration(s.fresh) * time.Duration(left)
	fmt.Printf("%3d/%d  %-8s %-75s %4.1f s   %s left\n", len(s.all)-left, len(s.all), mark, outcome.Combination, outcome.Took.Seconds(), remaining.Round(time.Second))
	if s.file == "" {
		return nil
	}
	keep := kept{Source: s.source}
	for _, o := range s.done {
		if o.Error == "" {
			keep.Held = append(keep.Held, o)
		}
	}
	text, err := json.Marshal(keep)
	if err != nil {
		return err
	}
	// Whoever stops us finds the old file or the new one, never half of one.
	if err := os.WriteFile(s.file+".new", text, 0o600); err != nil {
		return err
	}
	return os.Rename(s.file+".new", s.file)
}

// hashOfSource is over everything that the swept system and its sweep are built
// from and run with.
func hashOfSource() (string, error) {
	root, err := stack.ModuleRoot()
	if err != nil {
		return "", err
	}
	all := sha256.New()
	for _, dir := range []string{"go.mod", "go.sum", "services", "shared", "scripts"} {
		err := filepath.WalkDir(filepath.Join(root, dir), func(path string, entry fs.DirEntry, err error) error {
			if err != nil || entry.IsDir() {
				return err
			}
			text, err := os.ReadFile(path) //nolint:gosec // of our own repository
			fmt.Fprintf(all, "%s %x\n", path, sha256.Sum256(text))
			return err
		})
		if err != nil {
			return "", fmt.Errorf("hash of the source: %w", err)
		}
	}
	return hex.EncodeToString(all.Sum(nil)), nil
}
