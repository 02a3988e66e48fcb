package main

import (
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// dashboards are the files that Grafana is given.
func dashboards() []string {
	files, _ := filepath.Glob(filepath.Join(filepath.Dir(cli.Rules), "dashboards", "*.json")) // fails for a bad pattern only
	return files
}

// panelsOf are the queries of a dashboard.
func panelsOf(file string) (all []query, err error) {
	text, err := os.ReadFile(file) //nolint:gosec // a file of the repository
	if err != nil {
		return nil, err
	}
	var board struct {
		Title  string
		Panels []struct {
			Title   string
			Targets []struct{ Expr string }
		}
	}
	if err := json.Unmarshal(text, &board); err != nil {
		return nil, fmt.Errorf("%s: %w", file, err)
	}
	for _, panel := range board.Panels {
		if len(panel.Targets) == 0 {
			return nil, fmt.Errorf("%s: panel %q asks nothing", file, panel.Title)
		}
		for _, target := range panel.Targets {
			// Grafana's own word for a few scrapes.
			all = append(all, query{board.Title + ", " + panel.Title, strings.ReplaceAll(target.Expr, "$__rate_interval", "10s")})
		}
	}
	return all, nil
}
