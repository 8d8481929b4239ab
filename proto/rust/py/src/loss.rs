//! How a modelled link loses datagrams.

use crate::error::value_error;
use farcast_net::{GilbertChain, Loss as Model, LossWindow};
use pyo3::prelude::*;

/// How a link loses datagrams; made by its static methods.
#[pyclass(frozen, eq, module = "farcast.proto._core")]
#[derive(Clone, PartialEq)]
pub struct Loss(pub Model);

impl Loss {
    fn checked(model: Model) -> PyResult<Loss> {
        model.validate().map_err(value_error)?;
        Ok(Loss(model))
    }
}

#[pymethods]
impl Loss {
    #[staticmethod]
    fn random(p: f64) -> PyResult<Loss> {
        Loss::checked(Model::Random { p })
    }

    #[staticmethod]
    fn gilbert_elliott(loss: f64, burst_packets: f64) -> PyResult<Loss> {
        let burst = burst_packets;
        Loss::checked(Model::GilbertElliott { loss, burst })
    }

    #[staticmethod]
    fn gilbert_elliott_time(loss: f64, burst_us: u64) -> PyResult<Loss> {
        Loss::checked(Model::GilbertElliottTime { loss, burst_us })
    }

    #[staticmethod]
    #[pyo3(signature = (
        p_good, p_bad, good_to_bad, bad_to_good, *, burst_good_packets=None, burst_bad_packets=None
    ))]
    fn two_level(
        p_good: f64,
        p_bad: f64,
        good_to_bad: f64,
        bad_to_good: f64,
        burst_good_packets: Option<f64>,
        burst_bad_packets: Option<f64>,
    ) -> PyResult<Loss> {
        let chain = |loss, burst| GilbertChain { loss, burst };
        Loss::checked(Model::TwoLevel {
            good: chain(p_good, burst_good_packets),
            bad: chain(p_bad, burst_bad_packets),
            good_to_bad,
            bad_to_good,
        })
    }

    #[staticmethod]
    #[pyo3(signature = (windows, repeat_us=0))]
    fn windows(windows: Vec<(u64, u64, f64)>, repeat_us: u64) -> PyResult<Loss> {
        let windows = windows.into_iter();
        let window = |(start_us, length_us, share)| LossWindow {
            start_us,
            length_us,
            share,
        };
        let windows = windows.map(window).collect();
        Loss::checked(Model::Windows { windows, repeat_us })
    }

    #[staticmethod]
    #[pyo3(signature = (low, high, period_us, high_share, phase_us=0))]
    fn diurnal(
        low: f64,
        high: f64,
        period_us: u64,
        high_share: f64,
        phase_us: u64,
    ) -> PyResult<Loss> {
        Loss::checked(Model::Diurnal {
            low,
            high,
            period_us,
            high_share,
            phase_us,
        })
    }

    #[staticmethod]
    fn any_of(losses: Vec<Bound<'_, Loss>>) -> PyResult<Loss> {
        let parts = losses.iter().map(|loss| loss.get().0.clone());
        Loss::checked(Model::AnyOf(parts.collect()))
    }

    fn __repr__(&self) -> String {
        call(&self.0)
    }
}

/// The call that makes it.
fn call(model: &Model) -> String {
    let burst = |burst: Option<f64>| burst.map_or("None".to_owned(), |packets| packets.to_string());
    match model {
        Model::None => "Loss.random(0)".to_owned(),
        Model::Random { p } => format!("Loss.random({p})"),
        Model::GilbertElliott { loss, burst } => format!("Loss.gilbert_elliott({loss}, {burst})"),
        Model::GilbertElliottTime { loss, burst_us } => {
            format!("Loss.gilbert_elliott_time({loss}, {burst_us})")
        }
        Model::TwoLevel {
            good,
            bad,
            good_to_bad,
            bad_to_good,
        } => format!(
            "Loss.two_level({}, {}, {good_to_bad}, {bad_to_good}, burst_good_packets={}, burst_bad_packets={})",
            good.loss,
            bad.loss,
            burst(good.burst),
            burst(bad.burst),
        ),
        Model::Windows { windows, repeat_us } => {
            let text = |w: &LossWindow| format!("({}, {}, {})", w.start_us, w.length_us, w.share);
            let windows: Vec<String> = windows.iter().map(text).collect();
            format!("Loss.windows([{}], {repeat_us})", windows.join(", "))
        }
        Model::Diurnal {
            low,
            high,
            period_us,
            high_share,
            phase_us,
        } => format!("Loss.diurnal({low}, {high}, {period_us}, {high_share}, {phase_us})"),
        Model::AnyOf(parts) => {
            let parts: Vec<String> = parts.iter().map(call).collect();
            format!("Loss.any_of([{}])", parts.join(", "))
        }
    }
}
