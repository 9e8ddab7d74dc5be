package hub_test

import (
	"context"
	"fmt"
	"log/slog"
	"os"

	"tuxwatch/firmware/hub"
)

// serveForTest is the hub in a process that can be killed.
func serveForTest(dir string) {
	h, err := hub.New(hub.Options{State: dir, Listen: os.Getenv("TUXHUB_TEST_LISTEN"), Log: slog.New(slog.DiscardHandler)})
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	fmt.Println(h.Addr())
	if err := h.Serve(context.Background()); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}
