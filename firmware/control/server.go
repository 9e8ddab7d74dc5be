package control

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"log/slog"
	"net"
	"net/http"
	"time"
)

// Daemon is what the server shows.
type Daemon interface {
	Status() Status
	Configuration() Configuration
	// Frame answers what a camera's direct method snapshot does, for the
	// camera's module and its payload: a status of HTTP's, and JSON.
	Frame(ctx context.Context, camera string, request json.RawMessage) (status int, answer json.RawMessage)
}

// Serve answers on l until ctx ends, then closes l and waits for the answers
// under way.
func Serve(ctx context.Context, l net.Listener, d Daemon, log *slog.Logger) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /v1/status", func(w http.ResponseWriter, _ *http.Request) { write(w, d.Status()) })
	mux.HandleFunc("GET /v1/config", func(w http.ResponseWriter, _ *http.Request) { write(w, d.Configuration()) })
	mux.HandleFunc("GET /v1/frame", func(w http.ResponseWriter, r *http.Request) { writeFrame(w, r, d) })
	server := &http.Server{
		Handler:           mux,
		ReadHeaderTimeout: 5 * time.Second,
		WriteTimeout:      timeout,
		MaxHeaderBytes:    16 << 10,
		ErrorLog:          slog.NewLogLogger(log.Handler(), slog.LevelDebug),
	}
	ended := make(chan struct{})
	stop := context.AfterFunc(ctx, func() {
		defer close(ended)
		grace, cancel := context.WithTimeout(context.Background(), 500*time.Millisecond)
		defer cancel()
		if server.Shutdown(grace) != nil {
			server.Close()
		}
	})
	err := server.Serve(l)
	if !stop() {
		<-ended
	}
	if errors.Is(err, http.ErrServerClosed) {
		return nil
	}
	return fmt.Errorf("serving the control socket: %w", err)
}

func write(w http.ResponseWriter, body any) {
	data, err := json.Marshal(body)
	if err != nil {
		http.Error(w, err.Error(), http.StatusInternalServerError)
		return
	}
	w.Header().Set("Content-Type", "application/json")
	w.Write(append(data, '\n')) // an asker that has gone away needs no answer
}
