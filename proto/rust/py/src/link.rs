//! What a modelled link is like.

use crate::error::value_error;
use crate::loss::Loss;
use crate::record;
use farcast_net::{LinkConfig as Config, Loss as Model, RateEntry};
use pyo3::prelude::*;
use pyo3::types::{PyDict, PyTuple};

/// One direction of a path between two hosts.
#[pyclass(frozen, eq, module = "farcast.proto._core")]
#[derive(PartialEq)]
pub struct LinkConfig {
    config: Config,
    #[pyo3(get)]
    loss: f64,
    #[pyo3(get)]
    loss_burst: Option<f64>,
    loss_model: Option<Model>,
}

impl LinkConfig {
    /// As the network wants it.
    pub fn to_core(&self) -> Config {
        self.config.clone()
    }
}

/// A constructor and a getter for each plain field; the loss has three forms, the schedule is a tuple.
macro_rules! link_config {
    ($($field:ident: $kind:ty),+; $($more:ident: $more_kind:ty),+ $(,)?) => {
        #[pymethods]
        impl LinkConfig {
            #[classattr]
            fn __match_args__(py: Python<'_>) -> PyResult<Bound<'_, PyTuple>> {
                let names = [
                    $(stringify!($field),)+
                    "loss",
                    "loss_burst",
                    "loss_model",
                    "rate_schedule",
                    $(stringify!($more),)+
                ];
                PyTuple::new(py, names)
            }

            #[new]
            #[pyo3(signature = (
                $($field=Config::default().$field,)+ loss=0.0, loss_burst=None, *, loss_model=None,
                rate_schedule=Vec::new(), $($more=Config::default().$more),+
            ))]
            #[allow(clippy::too_many_arguments)] // keywords in Python
            fn new(
                $($field: $kind,)+
                loss: f64,
                loss_burst: Option<f64>,
                loss_model: Option<&Loss>,
                rate_schedule: Vec<(u64, u64)>,
                $($more: $more_kind),+
            ) -> PyResult<Self> {
                let loss_model = loss_model.map(|model| model.0.clone());
                let entries = rate_schedule.into_iter();
                let config = Config {
                    $($field,)+
                    loss: one_loss(loss, loss_burst, loss_model.as_ref())?,
                    rate_schedule: entries
                        .map(|(at_us, rate_bps)| RateEntry { at_us, rate_bps })
                        .collect(),
                    $($more),+
                };
                config.validate().map_err(value_error)?;
                Ok(LinkConfig { config, loss, loss_burst, loss_model })
            }

            $(#[getter]
            fn $field(&self) -> $kind {
                self.config.$field
            })+

            $(#[getter]
            fn $more(&self) -> $more_kind {
                self.config.$more
            })+

            #[getter]
            fn loss_model(&self) -> Option<Loss> {
                self.loss_model.clone().map(Loss)
            }

            #[getter]
            fn rate_schedule<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyTuple>> {
                let entries = self.config.rate_schedule.iter();
                let entries: Vec<_> = entries.map(|entry| (entry.at_us, entry.rate_bps)).collect();
                PyTuple::new(py, entries)
            }

            #[pyo3(signature = (**changes))]
            fn replace<'py>(
                slf: &Bound<'py, Self>,
                changes: Option<&Bound<'py, PyDict>>,
            ) -> PyResult<Bound<'py, PyAny>> {
                record::replace(slf.as_any(), changes)
            }

            fn __repr__(slf: &Bound<'_, Self>) -> PyResult<String> {
                record::repr_changed(slf.as_any())
            }
        }
    };
}

link_config!(
    delay_us: u64, jitter_us: u64, rate_bps: Option<u64>, queue_bytes: u64;
    rate_repeat_us: u64, delay_log_median_us: u64, delay_log_sigma: f64, delay_redraw_us: u64,
    policer_bps: Option<u64>, policer_burst_bytes: u64, mtu_bytes: u64, large_bytes: u64,
    large_loss: f64, duplicate: f64, reorder: f64, reorder_us: u64,
);

fn one_loss(loss: f64, burst: Option<f64>, model: Option<&Model>) -> PyResult<Model> {
    match (model, burst) {
        (Some(_), Some(_)) => Err(both("loss_burst")),
        (Some(_), None) if loss != 0.0 => Err(both("loss")),
        (Some(model), None) => Ok(model.clone()),
        (None, Some(burst)) => Ok(Model::GilbertElliott { loss, burst }),
        (None, None) => Ok(Model::Random { p: loss }),
    }
}

fn both(field: &str) -> PyErr {
    value_error(format!(
        "link: {field} and loss_model both say how datagrams are lost: give one of them"
    ))
}
