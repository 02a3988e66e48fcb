// Command catalogue keeps the promise that one name leads to everything: each
// pattern to its page, its experiment and every place of its use. It fails when a
// link is dead, a pattern has no place of use, or a page shows code that is no
// longer the code.
package main

import (
	"fmt"
	"os"

	"github.com/alecthomas/kong"
)

var cli struct {
	Check    checkCmd    `cmd:"" help:"Fail on any gap between code, experiments and pages."`
	Generate generateCmd `cmd:"" help:"Write what is generated: excerpts in the pages, the index in the README."`
}

func main() {
	k := kong.Parse(&cli, kong.Name("catalogue"), kong.UsageOnError())
	if err := k.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "catalogue:", err)
		os.Exit(1)
	}
}
