// Package site is the lab's page in the browser, as files. scripts/live serves them with
// a running system behind them; opened by themselves, from the disk or from a web server,
// they play the recorded runs of the experiments.
package site

import "embed"

// Files are the page: index.html, what it loads, and runs/, a recording of each experiment.
//
//go:embed *.html *.css *.js runs
var Files embed.FS
