;; A component that asks the host for a clock.
(component
  (import "wasi:clocks/wall-clock@0.2.0" (instance
    (export "now" (func (result u64))))))
