package main

import (
	"context"
	"fmt"
	"net"
	"os"
	"time"

	"example.com/failwell/scripts/live"
	"example.com/failwell/scripts/stack"
)

// usualPort is the one of docker compose: a bookmark stays good from run to run. Where it
// is taken, another one is as good.
const usualPort = 8080

func init() { livePage = startPage }

func startPage(opts *stack.Options) func(context.Context, *stack.Stack) (string, func(), error) {
	page := live.New()
	opts.LogicalDecoding, opts.Network, opts.Lives = true, true, page.Life
	return func(ctx context.Context, s *stack.Stack) (string, func(), error) {
		var config net.ListenConfig
		listener, err := config.Listen(ctx, "tcp", fmt.Sprintf("127.0.0.1:%d", usualPort))
		if err != nil {
			listener, err = config.Listen(ctx, "tcp", "127.0.0.1:0")
		}
		if err != nil {
			return "", nil, err
		}
		ctx, stop := context.WithCancel(ctx)
		ended := make(chan struct{})
		go func() {
			defer close(ended)
			err := page.Serve(ctx, listener, live.System{
				Env: s.Env(), RabbitAPI: s.Servers.RabbitAPI, Root: s.Root, Signal: s.Signal, Pid: s.Pid, Servers: s.Servers, Network: s.Network,
			})
			if err != nil {
				fmt.Fprintln(os.Stderr, "live page:", err)
			}
		}()
		return "http://" + listener.Addr().String(), func() {
			stop()
			select {
			case <-ended:
			case <-time.After(time.Second):
			}
		}, nil
	}
}
