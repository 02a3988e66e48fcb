// Command testenv starts one PostgreSQL and one RabbitMQ, runs a command with
// their addresses in its environment, and takes them down again:
//
//	go run ./scripts/testenv -- go test ./...
//
// Without it every package's tests start servers of their own.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"syscall"

	"example.com/failwell/shared/testenv"
)

func main() {
	args := os.Args[1:]
	if len(args) > 0 && args[0] == "--" {
		args = args[1:]
	}
	if len(args) == 0 {
		fmt.Fprintln(os.Stderr, "usage: testenv -- command [argument …]")
		os.Exit(2)
	}
	code, err := run(args)
	if err != nil {
		fmt.Fprintln(os.Stderr, "testenv:", err)
		code = 1
	}
	os.Exit(code)
}

func run(args []string) (int, error) {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM, os.Interrupt)
	defer stop()
	env, err := testenv.Start(ctx, testenv.Options{Log: os.Stderr})
	if err != nil {
		return 0, err
	}
	defer env.Close()
	fmt.Fprintf(os.Stderr, "PostgreSQL and RabbitMQ: %s\n", env.Source)

	cmd := exec.CommandContext(ctx, args[0], args[1:]...)
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.Env = append(os.Environ(),
		"FAILWELL_POSTGRES_URL="+env.PostgresURL,
		"FAILWELL_AMQP_URL="+env.AMQPURL,
		"FAILWELL_RABBIT_API="+env.RabbitAPI)
	cmd.Cancel = func() error { return cmd.Process.Signal(os.Interrupt) }
	err = cmd.Run()
	var exit *exec.ExitError
	if errors.As(err, &exit) {
		return exit.ExitCode(), nil
	}
	return 0, err
}
