package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"example.com/failwell/scripts/stack"
)

// groupCommit measures what it buys that writers who come together share a commit, beside
// services that are built with the plain writer.
func (b *bench) groupCommit(ctx context.Context) error {
	overlay, err := plainWriters(b.system.Root)
	if err != nil {
		return err
	}
	direct, err := b.second(ctx, stack.Options{Overlay: overlay})
	if err != nil {
		return err
	}
	defer direct.stop()
	compare := func(what, unit string, measure func(*bench) (sample, error)) error {
		_, err := b.against("group commit: "+what, unit,
			contender{"", 0, func() (sample, error) { return measure(b) }},
			contender{"postgres.Direct: each writer its own commit", 0, func() (sample, error) { return measure(direct) }})
		return err
	}
	const clients = 32
	if err := compare("order, accepted to confirmed", "orders/s", func(b *bench) (sample, error) {
		s, _, err := b.orders(ctx, 600, clients)
		return s, err
	}); err != nil {
		return err
	}
	err = errors.Join(b.openAccounts(ctx, 1), direct.openAccounts(ctx, 1), b.system.Servers.StopRabbit(ctx), direct.system.Servers.StopRabbit(ctx))
	if err != nil {
		return err
	}
	for _, clients := range []int{1, 8, 32} {
		err := compare(fmt.Sprintf("accept, %d clients", clients), "orders/s", func(b *bench) (sample, error) { return b.drive(ctx, clients, b.place) })
		if err != nil {
			return err
		}
	}
	return compare("ledger, one hot account, 32 clients", "entries/s", func(b *bench) (sample, error) {
		return b.drive(ctx, clients, func(ctx context.Context, _ int) error { return b.post(ctx, 0) })
	})
}

// plainWriters replaces the one line in which each service chooses its writer.
func plainWriters(root string) (overlay map[string]string, err error) {
	const grouped, direct = "postgres.Grouped(", "postgres.Direct("
	overlay = map[string]string{}
	for _, name := range stack.Services {
		path := filepath.Join("services", name, "main.go")
		text, err := os.ReadFile(filepath.Join(root, path)) //nolint:gosec // our own source
		if err != nil {
			return nil, err
		}
		if strings.Count(string(text), grouped) != 1 {
			return nil, fmt.Errorf("%s does not choose its writer in one line: no %s)", path, grouped)
		}
		overlay[path] = strings.Replace(string(text), grouped, direct, 1)
	}
	return overlay, nil
}
