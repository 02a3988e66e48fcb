package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"regexp"
	"time"

	"example.com/failwell/scripts/stack"
)

// groupCommit measures what it buys that writers who come together share a commit, beside
// services that are built with the plain writer.
func (b *bench) groupCommit(ctx context.Context) error {
	b.round = min(b.round, 2*time.Second)
	overlay, err := plainWriters(b.System.Root)
	if err != nil {
		return err
	}
	direct, err := b.second(ctx, stack.Options{Overlay: overlay})
	if err != nil {
		return err
	}
	defer direct.Close()
	compare := func(what, unit string, measure func(*bench) (sample, error)) error {
		_, err := b.against("group commit: "+what, unit,
			contender{"", 0, func() (sample, error) { return measure(b) }},
			contender{"postgres.Direct: each writer its own commit", 0, func() (sample, error) { return measure(direct) }})
		return err
	}
	if err := compare("order, accepted to confirmed", "orders/s", func(b *bench) (sample, error) {
		s, _, err := b.orders(ctx, 600)
		return s, err
	}); err != nil {
		return err
	}
	err = errors.Join(b.openAccounts(ctx, 1), direct.openAccounts(ctx, 1), b.System.Servers.StopRabbit(ctx), direct.System.Servers.StopRabbit(ctx))
	if err != nil {
		return err
	}
	for _, clients := range []int{8, 32} {
		err := compare(fmt.Sprintf("accept, %d clients", clients), "orders/s", func(b *bench) (sample, error) { return b.drive(ctx, clients, b.place) })
		if err != nil {
			return err
		}
	}
	return compare("ledger, one hot account, 32 clients", "entries/s", func(b *bench) (sample, error) {
		return b.drive(ctx, 32, func(ctx context.Context, _ int) error { return b.post(ctx, 0) })
	})
}

// chosenWriter is the one place in which a service chooses its writer.
var chosenWriter = regexp.MustCompile(`postgres\.Grouped\(db, postgres\.GroupOptions\{[^}]*\}\)`)

// plainWriters has the services choose the other one.
func plainWriters(root string) (overlay map[string]string, err error) {
	overlay = map[string]string{}
	for _, name := range stack.Services {
		path := filepath.Join("services", name, "main.go")
		text, err := os.ReadFile(filepath.Join(root, path)) //nolint:gosec // our own source
		if err != nil {
			return nil, err
		}
		if found := chosenWriter.FindAll(text, -1); len(found) != 1 {
			return nil, fmt.Errorf("%s chooses its writer in %d places, not in one: %s", path, len(found), chosenWriter)
		}
		overlay[path] = chosenWriter.ReplaceAllString(string(text), "postgres.Direct(db)")
	}
	return overlay, nil
}
