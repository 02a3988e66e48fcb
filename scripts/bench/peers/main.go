// Command peers does pieces of our work with what a user would pick instead, for
// scripts/bench. It prints {"per_second": …}.
//
//	peers river N        N chains of three transactional River jobs
//	peers dbos N         N durable DBOS workflows of an order's three calls to the processor, from a queue
//	peers dbos-direct N  the same, without the queue
package main

import (
	"context"
	"encoding/json"
	"fmt"
	"os"
	"os/signal"
	"strconv"
	"syscall"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	if err := run(ctx, os.Args[1:]); err != nil {
		fmt.Fprintln(os.Stderr, "peers:", err)
		stop()
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	peers := map[string]func(ctx context.Context, n int) (float64, error){
		"river": riverChains, "dbos": dbosQueue, "dbos-direct": dbosDirect,
	}
	if len(args) != 2 || peers[args[0]] == nil {
		return fmt.Errorf("usage: peers river|dbos|dbos-direct N")
	}
	n, err := strconv.Atoi(args[1])
	if err != nil {
		return err
	}
	perSecond, err := peers[args[0]](ctx, n)
	if err != nil {
		return err
	}
	return json.NewEncoder(os.Stdout).Encode(map[string]float64{"per_second": perSecond})
}
