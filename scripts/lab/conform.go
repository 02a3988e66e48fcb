package main

import (
	"context"

	"example.com/failwell/scripts/lab/conform"
)

type conformCmd struct{ conform.Command }

// Run holds a service against the cases: the one that the flags describe, or a system of ours.
func (c conformCmd) Run(ctx context.Context) error {
	if c.Kind+c.URL+c.Body+c.Trigger+c.Secret == "" && !c.List {
		return conformOurs(ctx, c.Skip)
	}
	return c.Command.Run(ctx)
}
