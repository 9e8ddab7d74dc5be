package vision

import (
	"context"
	"errors"
	"fmt"
	"image"
	"sync"
)

var (
	// ErrNotReady is returned while no model is loaded.
	ErrNotReady = errors.New("no model is loaded")
	// ErrBusy is returned when enough pictures are waiting already.
	ErrBusy = errors.New("the recognizer is busy")
	// ErrClosed is returned after Close.
	ErrClosed = errors.New("the recognizer is closed")
)

// DefaultMaxWaiting is how many pictures may wait at a Service.
const DefaultMaxWaiting = 4

// Service answers what pictures show, one picture at a time, with the model
// that it holds at that moment. It is safe for concurrent use. The zero value is
// not; use NewService.
type Service struct {
	runtime Runtime

	// turn holds the one token that its owner may use the classifier with.
	turn chan struct{}
	// explaining holds the one token of who has a picture explained.
	explaining chan struct{}
	// loading keeps Loads in order.
	loading sync.Mutex

	mu         sync.Mutex
	inside     int // pictures being looked at or waiting
	maxWaiting int
	info       *ModelInfo // nil: not ready
	closed     bool

	classifier *Classifier // guarded by turn
}

// NewService makes a service without a model: load one next. The caller closes it.
func NewService(runtime Runtime) *Service {
	return &Service{
		runtime: runtime, turn: make(chan struct{}, 1), explaining: make(chan struct{}, 1), maxWaiting: DefaultMaxWaiting,
	}
}

// SetMaxWaiting changes how many pictures may wait before Classify returns
// ErrBusy (DefaultMaxWaiting at first).
func (s *Service) SetMaxWaiting(n int) {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.maxWaiting = n
}

// LoadOptions are how a model is to run.
type LoadOptions struct {
	Threads int // 0: 2
	Limits  Limits
	// Runtime is what runs the model; nil for the service's own.
	Runtime Runtime
}

// Load loads the model in a folder and puts it in the place of the current one,
// between two pictures. When it does not load, the current one stays.
func (s *Service) Load(ctx context.Context, dir string, options LoadOptions) error {
	s.loading.Lock()
	defer s.loading.Unlock()
	if options.Threads == 0 {
		options.Threads = 2
	}
	if options.Runtime == nil {
		options.Runtime = s.runtime
	}
	next, err := OpenClassifier(options.Runtime, dir, options.Threads, options.Limits)
	if err != nil {
		return err
	}
	if err := s.takeTurn(ctx); err != nil {
		next.Close()
		return fmt.Errorf("loading %s: %w", dir, err)
	}
	defer s.endTurn()
	s.mu.Lock()
	if s.closed {
		s.mu.Unlock()
		next.Close()
		return ErrClosed
	}
	info := next.Info()
	s.info = &info
	s.mu.Unlock()
	previous := s.classifier
	s.classifier = next
	if previous != nil {
		return previous.Close()
	}
	return nil
}

// Model describes the current model; false when there is none.
func (s *Service) Model() (ModelInfo, bool) {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.info == nil {
		return ModelInfo{}, false
	}
	return *s.info, true
}

// Classify classifies a JPEG or PNG file. Beside the Classifier's errors and
// those of the context it returns ErrNotReady, ErrBusy and ErrClosed.
func (s *Service) Classify(ctx context.Context, file []byte) (Result, error) {
	return s.ask(ctx, func(c *Classifier) (Result, error) { return c.Classify(file) })
}

// ClassifyImage classifies a picture that is decoded already and upright.
func (s *Service) ClassifyImage(ctx context.Context, img image.Image) (Result, error) {
	return s.ask(ctx, func(c *Classifier) (Result, error) { return c.ClassifyImage(img) })
}

// ask waits for its turn among a bounded number of others.
func (s *Service) ask(ctx context.Context, question func(*Classifier) (Result, error)) (Result, error) {
	if err := s.enter(); err != nil {
		return Result{}, err
	}
	defer s.leave()
	if err := s.takeTurn(ctx); err != nil {
		return Result{}, err
	}
	defer s.endTurn()
	if s.classifier == nil { // unloaded while this picture waited
		return Result{}, s.whyNot()
	}
	return question(s.classifier)
}

// enter takes a place: one picture is being looked at, the others wait.
func (s *Service) enter() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	switch {
	case s.closed:
		return ErrClosed
	case s.info == nil:
		return ErrNotReady
	case s.inside > s.maxWaiting:
		return fmt.Errorf("%w: %d pictures are waiting", ErrBusy, s.maxWaiting)
	}
	s.inside++
	return nil
}

func (s *Service) whyNot() error {
	s.mu.Lock()
	defer s.mu.Unlock()
	if s.closed {
		return ErrClosed
	}
	return ErrNotReady
}

func (s *Service) leave() {
	s.mu.Lock()
	defer s.mu.Unlock()
	s.inside--
}

func (s *Service) takeTurn(ctx context.Context) error {
	if err := ctx.Err(); err != nil {
		return err
	}
	select {
	case s.turn <- struct{}{}:
		return nil
	case <-ctx.Done():
		return ctx.Err()
	}
}

func (s *Service) endTurn() { <-s.turn }

// Unload frees the model, after the picture that is being looked at. Until the
// next Load, pictures get ErrNotReady.
func (s *Service) Unload() error { return s.drop(ErrNotReady) }

// Close frees the model, after the picture that is being looked at. Pictures
// that wait, and later ones, get ErrClosed.
func (s *Service) Close() error { return s.drop(ErrClosed) }

func (s *Service) drop(because error) error {
	s.mu.Lock()
	s.closed = s.closed || because == ErrClosed
	s.info = nil
	s.mu.Unlock()
	s.turn <- struct{}{}
	defer s.endTurn()
	classifier := s.classifier
	s.classifier = nil
	if classifier == nil {
		return nil
	}
	return classifier.Close()
}
