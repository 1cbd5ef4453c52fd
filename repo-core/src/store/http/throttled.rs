//! Connections that keep to limits of transfer, piece by piece.

use std::sync::Arc;

use ureq::{
    Error as HttpError,
    unversioned::transport::{Buffers, ConnectionDetails, Connector, Either, NextTimeout, Transport},
};

use crate::store::throttle::Throttle;

/// Slows down what others have connected, if there are limits.
#[derive(Debug)]
pub(super) struct ThrottledConnector(pub(super) Option<Arc<Throttle>>);

impl<In: Transport> Connector<In> for ThrottledConnector {
    type Out = Either<In, ThrottledTransport<In>>;

    fn connect(&self, _: &ConnectionDetails<'_>, below: Option<In>) -> Result<Option<Self::Out>, HttpError> {
        Ok(below.map(|below| match &self.0 {
            Some(throttle) => Either::B(ThrottledTransport { below, throttle: Arc::clone(throttle) }),
            None => Either::A(below),
        }))
    }
}

/// A connection with limits.
#[derive(Debug)]
pub(super) struct ThrottledTransport<T> {
    below: T,
    throttle: Arc<Throttle>,
}

impl<T: Transport> Transport for ThrottledTransport<T> {
    fn buffers(&mut self) -> &mut dyn Buffers {
        self.below.buffers()
    }

    fn transmit_output(&mut self, amount: usize, timeout: NextTimeout) -> Result<(), HttpError> {
        self.throttle.send(amount as u64);
        self.below.transmit_output(amount, timeout)
    }

    fn await_input(&mut self, timeout: NextTimeout) -> Result<bool, HttpError> {
        let before = self.below.buffers().input().len();
        let is_more = self.below.await_input(timeout)?;
        let came = self.below.buffers().input().len().saturating_sub(before);
        self.throttle.fetch(came as u64);
        Ok(is_more)
    }

    fn is_open(&mut self) -> bool {
        self.below.is_open()
    }

    fn is_tls(&self) -> bool {
        self.below.is_tls()
    }
}
