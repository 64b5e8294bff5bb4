;; A component built against a contract that no host has heard of.
(component
  (component $empty)
  (instance $it (instantiate $empty))
  (export "atomix:storage/plugin@9.0.0" (instance $it)))
