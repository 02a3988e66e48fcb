// Command lab serves the live page in a container: docker compose publishes it on
// loopback. Everything that it is about comes from the environment.
package main

import (
	"cmp"
	"context"
	"net"
	"os"
	"strings"

	"example.com/failwell/scripts/command"
	"example.com/failwell/scripts/live"
)

func main() { command.Main("lab", run) }

func run(ctx context.Context) error {
	env := map[string]string{}
	for _, variable := range os.Environ() {
		key, value, _ := strings.Cut(variable, "=")
		env[key] = value
	}
	if env["MERCHANT_KEY"] == "" { // id:key:secret of the first
		env["MERCHANT_KEY"] = strings.Split(env["MERCHANTS"]+"::", ":")[1]
	}
	var config net.ListenConfig
	listener, err := config.Listen(ctx, "tcp", cmp.Or(env["HTTP_ADDR"], "127.0.0.1:8080"))
	if err != nil {
		return err
	}
	return live.New().Serve(ctx, listener, live.System{Env: env, RabbitAPI: env["RABBIT_API"]})
}
